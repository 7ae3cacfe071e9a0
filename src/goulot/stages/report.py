"""`goulot report`: the page that a person reads first, and the closing words on the terminal."""

import logging
import shutil
import sys
from collections.abc import Callable

import pandas as pd
from pydantic import Field
from rich.console import Console
from rich.table import Table as TerminalTable

from goulot import layout, ranking
from goulot.artifacts import write_text
from goulot.params import Section
from goulot.progress import track
from goulot.reporting import (
    costs,
    curves,
    data,
    depths,
    finished,
    models,
    overview,
    page,
    provenance,
    submission,
    suspects,
    warnings,
)  # fmt: skip
from goulot.reporting.finished import Run

log = logging.getLogger("goulot")


class Params(Section):
    """What the page shows."""

    title: str = Field("goulot", description="the page's heading")
    rows: int = Field(
        8, ge=1, le=1000, description="rows of the submission, of leaks and of the doubted labels shown"
    )  # fmt: skip


def run(params: Params) -> None:
    """Write index.html and the training curves' points; print the leaderboard and where things lie."""
    shutil.rmtree(layout.REPORT, ignore_errors=True)
    read = finished.read()
    makers: list[Callable[[], page.Section]] = [
        lambda: overview.section(read, costs.read()), lambda: data.section(read),
        lambda: suspects.duplicates(params.rows), lambda: suspects.labels(params.rows),
        lambda: depths.section(read, ranking.scored_by(read.known.target)), lambda: models.section(read),
        lambda: submission.section(read, params.rows), provenance.section,
    ]  # fmt: skip
    made = track((make() for make in makers), total=len(makers), unit="sections", label="report")
    written = page.render(
        title=params.title, lead=overview.lead(read), warnings=warnings.find(read), sections=list(made)
    )  # fmt: skip
    write_text(layout.REPORT_PAGE, written)
    curves.write(read)
    _print(read)


def _print(read: Run) -> None:
    shown = read.shown[:3]
    title = "Cross-validated scores (the blend's are nested)"
    table = TerminalTable("learner", "weight", *(metric.title for metric in shown), "seconds", title=title)
    for row in read.board.to_dict("records"):
        name, took = str(row["learner"]), costs.seconds(costs.stage_of(str(row["learner"])))
        numbers = [f"{row[metric.name]:.4f}" for metric in shown]
        weight = "" if pd.isna(row["weight"]) else f"{row['weight']:.2f}"
        table.add_row(name, weight, *numbers, "cached" if took is None else f"{took:.1f}")
    console = Console(file=sys.stderr, width=None if sys.stderr.isatty() else 100)
    console.print(table)
    written = layout.SUBMISSION if layout.SUBMISSION.is_file() else "none, as there is no test set"
    console.print(f"submission: {written}\nreport:     {layout.REPORT_PAGE}", highlight=False)
