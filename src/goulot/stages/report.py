"""`goulot report`: the page that a person reads first, and the closing words on the terminal."""

import logging
import shutil
import sys

import numpy as np
import pandas as pd
from pydantic import Field
from rich.console import Console
from rich.table import Table as TerminalTable

from goulot import layout, metrics, reporting, truth
from goulot.artifacts import read_json, read_table, write_text
from goulot.params import Section, members
from goulot.reporting import Picture, Table
from goulot.truth import Truth

log = logging.getLogger("goulot")


class Params(Section):
    """What the page shows."""

    title: str = Field("goulot", description="the page's heading")
    rows: int = Field(8, ge=1, le=1000, description="rows of the submission and of the quarantine shown")


def run(params: Params) -> None:
    """Write index.html; print the leaderboard and where things lie."""
    shutil.rmtree(layout.REPORT, ignore_errors=True)
    board = pd.read_csv(layout.LEADERBOARD)
    known = truth.read().train
    oof = read_table(layout.BLEND_OOF).set_index("image_id").loc[known.images["image_id"]]
    page = reporting.render(
        title=params.title, lead=_lead(oof, known), warnings=_warnings(),
        sections=[_models(board, oof, known), _features(), _data(params), _submission(params), _cost()],
    )  # fmt: skip
    write_text(layout.REPORT_PAGE, page)
    _print(board)


def _lead(oof: pd.DataFrame, known: Truth) -> str:
    p, y, fold = oof[known.target.outputs].to_numpy(), known.y, known.fold
    parts = []
    for name in ("accuracy", "roc_auc", "log_loss"):
        metric = metrics.METRICS[name]
        by_fold = [metric.score(y[fold == f], p[fold == f]) for f in np.unique(fold)]
        parts.append(f"{metric.title} {metric.score(y, p):.4f} (folds {min(by_fold):.4f} to {max(by_fold):.4f})")
    return "The blend, by nested cross-validation: " + ", ".join(parts) + "."


def _warnings() -> list[str]:
    ingest, audit = read_json(layout.metrics(layout.INGEST)), read_json(layout.metrics(layout.AUDIT))
    lines = []
    if ingest["quarantined"]:
        lines.append(f"{ingest['quarantined']} images could not be used and were set aside.")
    if audit["pairs_across_train_and_test"]:
        lines.append(
            f"{audit['pairs_across_train_and_test']} pairs of near-identical images have one in the training and one "
            "in the test set."
        )
    if audit["groups_doubted"]:
        lines.append(
            f"{audit['groups_doubted']} very large groups of near-identical images were found (see audit.merge_large)."
        )
    return lines


def _models(board: pd.DataFrame, oof: pd.DataFrame, known: Truth) -> reporting.Section:
    y, p = known.y, oof[known.target.outputs].to_numpy()
    pictures = [
        Picture.of(
            "Receiver operating characteristic of the blend, out of fold",
            reporting.roc_figure(y, p, known.target.names),
        ),
        Picture.of("Calibration of the blend, out of fold", reporting.calibration_figure(y, p)),
    ]
    seconds = [_seconds("blend" if name == "blend" else f"learn@{name}") for name in board["learner"]]
    return reporting.Section(
        "Models", tables=[Table.of("Out-of-fold scores", board.assign(seconds=seconds))], pictures=pictures
    )


def _features() -> reporting.Section:
    ranking = pd.read_csv(layout.RANKING)
    return reporting.Section(
        "Features", ["Each column was probed by a linear classifier; the chosen ones are stacked for the learners."],
        [Table.of("Columns by probe score", ranking.head(20))],
        [Picture.of("Which depth transfers best, and what it costs to get there", reporting.depth_figure(ranking))],
    )  # fmt: skip


def _data(params: Params) -> reporting.Section:
    manifest, quarantine = read_table(layout.MANIFEST), read_table(layout.QUARANTINE)
    counts = (
        manifest[manifest["split"] == "train"]["label"].value_counts().rename_axis("class").reset_index(name="images")
    )
    tables = [Table.of("Training images by class", counts)]
    if len(quarantine):
        tables.append(Table.of("Images set aside", quarantine[["split", "file", "reason"]].head(params.rows)))
    pictures = [Picture.of("A few images and their augmented views", layout.PREVIEW)]
    if len(read_table(layout.PAIRS)):
        pictures.append(Picture.of("The nearest pairs of images", layout.CONTACT_SHEET))
    train, test = ((manifest["split"] == part).sum() for part in ("train", "test"))
    return reporting.Section("Data", [f"{train:,} training and {test:,} test images."], tables, pictures)


def _submission(params: Params) -> reporting.Section:
    rows = pd.read_csv(layout.SUBMISSION, dtype=str, keep_default_na=False)
    return reporting.Section(
        "Submission",
        [f"{layout.SUBMISSION}: {len(rows):,} rows."],
        [Table.of("Its first rows", rows.head(params.rows))],
    )


def _cost() -> reporting.Section:
    families = [("extract", "backbones"), ("learn", "learners")]
    stages = ["fetch", "ingest", "augment", "audit", "split", "rank", "blend", "submit"]
    stages += [f"{stage}@{name}" for stage, family in families for name in members(stage, family)]
    stages = [stage for stage in stages if layout.times(stage).is_file()]
    rows = [
        [stage, _seconds(stage), f"{read_json(layout.times(stage))['peak_bytes'] / 2**20:,.0f}"] for stage in stages
    ]
    return reporting.Section(
        "Cost",
        ["As of each stage's last run on this machine; a stage restored from the cache took none."],
        [Table("Time and memory", ["stage", "seconds", "peak memory (MiB)"], rows)],
    )


def _seconds(stage: str) -> str:
    path = layout.times(stage)
    return f"{read_json(path)['seconds']:.1f}" if path.is_file() else "cached"


def _print(board: pd.DataFrame) -> None:
    table = TerminalTable(
        "learner",
        "weight",
        "log-loss",
        "ROC AUC",
        "accuracy",
        "seconds",
        title="Cross-validated scores (the blend's are nested)",
    )
    for row in board.to_dict("records"):
        name = str(row["learner"])
        numbers = [f"{row[key]:.4f}" for key in ("log_loss", "roc_auc", "accuracy")]
        table.add_row(name, f"{row['weight']:.2f}", *numbers, _seconds("blend" if name == "blend" else f"learn@{name}"))
    console = Console(file=sys.stderr, width=None if sys.stderr.isatty() else 100)
    console.print(table)
    console.print(f"submission: {layout.SUBMISSION}\nreport:     {layout.REPORT_PAGE}", highlight=False)
