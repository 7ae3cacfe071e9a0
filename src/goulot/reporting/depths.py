"""Section: which depth of which backbone transfers best against its cost, and the map of the images."""

import numpy as np
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
    columns["milliseconds"] = _milliseconds(columns)
    best, stacked = columns.iloc[0], columns[columns["chosen"]]
    agreement = read_json(layout.metrics(layout.RANK))["agreement"]
    others = ", ".join(f"{name} {tau:.2f}" for name, tau in agreement.items())
    lines = [
        f"Each column was probed by a linear model. The best is {best['column']} of {best['backbone']} "
        f"({score} {best['score']:.3f}); {len(stacked)} of {len(columns)} columns are stacked for the learners: "
        f"{stacked['channels'].sum():,} channels, {stacked['bytes'].sum():,} bytes an image and view.",
        "Milliseconds an image are those of the whole network as it was last run here, with decoding, in proportion to "
        "the multiply-adds up to the depth; a network whose features came from the cache has none.",
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


def _milliseconds(columns: pd.DataFrame) -> "pd.Series[float]":
    """What an image takes up to each depth, by its network's speed in the last extraction; NaN where none is known."""
    known = {
        name: 1000 / read_json(path)["rows"]
        for name in columns["backbone"].unique()
        if (path := layout.speed(f"extract@{name}")).is_file()
    }
    whole = columns["backbone"].map(known).astype(float)
    work = columns["multiply_adds"] / columns.groupby("backbone")["multiply_adds"].transform("max").replace(0, np.nan)
    return (whole * work).round(2)
