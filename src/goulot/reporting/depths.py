"""Section: which depth of which backbone transfers best against its cost, and the map of the images."""

import pandas as pd

from goulot import layout
from goulot.artifacts import read_json
from goulot.reporting import charts, embedding
from goulot.reporting.finished import Run
from goulot.reporting.page import Chart, Section, Table

ROWS = 20


def section(run: Run, score: str) -> Section:
    """Two charts from shallow to deep, the map of the images, and the columns; `score` is the probe's, by its title."""
    columns = pd.read_csv(layout.RANKING)
    best, stacked = columns.iloc[0], columns[columns["chosen"]]
    agreement = read_json(layout.metrics(layout.RANK))["agreement"]
    others = ", ".join(f"{name} {tau:.2f}" for name, tau in agreement.items())
    lines = [
        f"Each column was probed by a linear model. The best is {best['column']} of {best['backbone']} "
        f"({score} {best['score']:.3f}); {len(stacked)} of {len(columns)} columns are stacked for the learners: "
        f"{stacked['channels'].sum():,} channels, {stacked['bytes'].sum():,} bytes an image and view.",
        f"How far other measures order the columns alike (Kendall's tau, 1 is the same order): {others}.",
    ]
    by_work = charts.depth(columns, score, "multiply_adds", "multiply-adds an image")
    by_bytes = charts.depth(columns, score, "bytes", "bytes an image")
    first = f" (the best {ROWS} of {len(columns)})" if len(columns) > ROWS else ""
    return Section("Features", lines, [
        Chart("From shallow and general to deep and special: what a depth is worth by the work it takes", by_work),
        Chart("The same by the bytes that an image takes", by_bytes),
        *embedding.draw(run),
        Table.of(f"Columns by probe score ({score}){first}", columns.head(ROWS)),
    ])  # fmt: skip
