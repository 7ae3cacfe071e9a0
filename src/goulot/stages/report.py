"""`goulot report`: the page that a person reads first, and the closing words on the terminal."""

import logging
import shutil
import sys

import numpy as np
import pandas as pd
from pydantic import Field
from rich.console import Console
from rich.table import Table as TerminalTable

from goulot import decisions, layout, metrics, ranking, reporting, targets, truth
from goulot.artifacts import read_json, read_table, write_text
from goulot.params import Section, members
from goulot.reporting import Picture, Table
from goulot.targets import Target
from goulot.truth import Truth

log = logging.getLogger("goulot")

MAX_FIGURES = 6
MAX_MATRIX = 30  # classes of a confusion matrix; rows of a table by class


class Params(Section):
    """What the page shows."""

    title: str = Field("goulot", description="the page's heading")
    rows: int = Field(
        8, ge=1, le=1000, description="rows of the submission, of the quarantine and of the doubted labels shown"
    )


def run(params: Params) -> None:
    """Write index.html; print the leaderboard and where things lie."""
    shutil.rmtree(layout.REPORT, ignore_errors=True)
    board = pd.read_csv(layout.LEADERBOARD)
    known = truth.read().train
    oof = read_table(layout.BLEND_OOF).set_index("image_id").loc[known.images["image_id"]]
    page = reporting.render(
        title=params.title, lead=_lead(board, oof, known), warnings=_warnings(),
        sections=[_models(board, oof, known), _features(), _data(params), _duplicates(params), _doubts(params),
                  _submission(params), _cost()],
    )  # fmt: skip
    write_text(layout.REPORT_PAGE, page)
    _print(board)


def _lead(board: pd.DataFrame, oof: pd.DataFrame, known: Truth) -> str:
    """The metric that was chosen and two more, with the range over the folds where no rule was tuned for it."""
    p, y, fold, chosen = oof[known.target.outputs].to_numpy(), known.y, known.fold, _chosen()
    by_fold = pd.DataFrame([decisions.every(y[fold == f], p[fold == f], known.target) for f in np.unique(fold)])
    parts = []
    for name in _shown(board)[:3]:
        metric = metrics.find(name)
        text = f"{metric.title} {board.loc[board['learner'] == 'blend', name].iloc[0]:.4f}"
        if name in by_fold and not (metric.decides and name == chosen):
            text += f" (folds {by_fold[name].min():.4f} to {by_fold[name].max():.4f})"
        parts.append(text)
    return "The blend, by nested cross-validation: " + ", ".join(parts) + "."


def _chosen() -> str:
    return str(read_json(layout.BLEND_RULE)["metric"])


def _shown(board: pd.DataFrame) -> list[str]:
    """The leaderboard's metrics, the chosen one first."""
    names = [str(name) for name in board.columns if name not in ("learner", "weight")]
    return sorted(names, key=lambda name: name != _chosen())


def _warnings() -> list[str]:
    ingest, audit = read_json(layout.metrics(layout.INGEST)), read_json(layout.metrics(layout.AUDIT))
    lines = []
    if ingest["quarantined"]:
        lines.append(f"{ingest['quarantined']} images could not be used and were set aside.")
    if filled := read_json(layout.metrics(layout.SUBMIT))["filled_by_prior"]:
        lines.append(f"{filled} rows of the submission are the training set's prior: their images could not be used.")
    if ingest["dropped"]:
        lines.append(
            f"{ingest['dropped']} training images were left out by ingest.drop: the scores are over the others, "
            "and cannot be compared with those of a run that had them."
        )
    if ingest["unlisted"]:
        lines.append(f"{ingest['unlisted']} image files are named by no table, or have names that no table can hold.")
    if audit["pairs_across_train_and_test"]:
        lines.append(
            f"{audit['pairs_across_train_and_test']} pairs of near-identical images have one in the training and one "
            "in the test set."
        )
    if audit["conflicting_pairs"]:
        lines.append(f"{audit['conflicting_pairs']} pairs of near-identical training images bear different labels.")
    if audit["groups_doubted"]:
        lines.append(
            f"{audit['groups_doubted']} very large groups of near-identical images were found (see audit.merge_large)."
        )
    return lines


def _models(board: pd.DataFrame, oof: pd.DataFrame, known: Truth) -> reporting.Section:
    tables, pictures = _by_task(known, oof[known.target.outputs].to_numpy())
    seconds = [_seconds(_stage(str(name))) for name in board["learner"]]
    return reporting.Section(
        "Models", tables=[Table.of("Out-of-fold scores", board.assign(seconds=seconds)), *tables], pictures=pictures
    )


def _by_task(known: Truth, p: np.ndarray) -> tuple[list[Table], list[Picture]]:
    """What is shown of the blend's out-of-fold predictions."""
    y, target = known.y, known.target
    if target.task == "regression":
        columns = list(zip(target.names, y.T, p.T, strict=True))[:MAX_FIGURES]
        figures = [(name, reporting.scatter_figure(a, b, name)) for name, a, b in columns]
        return [], [Picture.of(f"{name}: predicted by the blend against actual, out of fold", f) for name, f in figures]
    if target.task == "multilabel":
        labels = Table.of("Labels, out of fold", pd.read_csv(layout.BLEND_LABELS))
        figure = reporting.calibration_figure(y.ravel() == 1, p.ravel(), "a label")
        return [labels], [Picture.of("Calibration of the blend over all labels, out of fold", figure)]
    figure = reporting.calibration_figure(y == p.argmax(1), p.max(1), "the predicted class")
    tables, pictures = _confusion(target.names)
    roc = Picture.of(
        "Receiver operating characteristic of the blend, out of fold", reporting.roc_figure(y, p, target.names)
    )
    return tables, [roc, Picture.of("Calibration of the blend, out of fold", figure), *pictures]


def _confusion(names: list[str]) -> tuple[list[Table], list[Picture]]:
    """A matrix of few classes; of many, the pairs that are confused most."""
    pairs = pd.read_csv(layout.CONFUSION, dtype=str, keep_default_na=False)
    if len(names) <= MAX_MATRIX:
        counts = pd.crosstab(pairs["actual"], pairs["predicted"]).reindex(index=names, columns=names, fill_value=0)
        return [], [Picture.of("Decided against actual classes, out of fold", reporting.confusion_figure(counts))]
    wrong = pairs[pairs["actual"] != pairs["predicted"]].value_counts().reset_index(name="images")
    return [Table.of("The classes that are confused most, out of fold", wrong.head(MAX_MATRIX))], []


def _features() -> reporting.Section:
    caption = "Which depth transfers best, and what it costs to get there"
    columns, score = pd.read_csv(layout.RANKING), ranking.scored_by(targets.read())
    return reporting.Section(
        "Features", ["Each column was probed by a linear model; the chosen ones are stacked for the learners."],
        [Table.of(f"Columns by probe score ({score})", columns.head(20))],
        [Picture.of(caption, reporting.depth_figure(columns, score))],
    )  # fmt: skip


def _data(params: Params) -> reporting.Section:
    manifest, quarantine = read_table(layout.MANIFEST), read_table(layout.QUARANTINE)
    tables = [_targets(manifest[manifest["split"] == "train"], targets.read())]
    if len(quarantine):
        tables.append(Table.of("Images set aside", quarantine[["split", "file", "reason"]].head(params.rows)))
    pictures = [Picture.of("A few images and their augmented views", layout.PREVIEW)]
    train, test = ((manifest["split"] == part).sum() for part in ("train", "test"))
    return reporting.Section("Data", [f"{train:,} training and {test:,} test images."], tables, pictures)


def _duplicates(params: Params) -> reporting.Section:
    pairs, likeness = read_table(layout.PAIRS), pd.read_csv(layout.LIKENESS)
    least = read_json(layout.metrics(layout.AUDIT))["least_likeness"]
    lines = [
        f"{len(pairs):,} pairs of images count as one image each: laid on each other, in any pose, their likeness is "
        f"{least:.4f} or more. No fold parts them."
    ]
    tables = []
    for path, what in ((layout.CONFLICTS, "Duplicates of different labels"), (layout.TWINS, "Test images in training")):
        found = pd.read_csv(path, dtype=dict.fromkeys(("a", "b", "label_a", "label_b", "test", "train", "label"), str))
        if len(found):
            caption = f"{what}: {min(params.rows, len(found))} of {len(found):,} ({path})"
            tables.append(Table.of(caption, found.head(params.rows)))
    figure = reporting.likeness_figure(likeness, least)
    pictures = [Picture.of("Likeness of planted copies and of candidate pairs; duplicates are to the right", figure)]
    if len(pairs):
        pictures.append(Picture.of("The nearest pairs of images", layout.CONTACT_SHEET))
    return reporting.Section("Duplicates", lines, tables, pictures)


def _targets(train: pd.DataFrame, target: Target) -> Table:
    if target.task == "regression":
        numbers = train[target.columns].set_axis(target.names, axis=1).describe().T.rename_axis("number").reset_index()
        return Table.of("Training images by number", numbers.assign(count=numbers["count"].astype(int)))
    if target.task == "multilabel":
        counts = train[target.columns].set_axis(target.names, axis=1).sum().astype(int).sort_values(ascending=False)
    else:
        counts = train["label"].value_counts()
    kind = "label" if target.task == "multilabel" else "class"
    table = counts.rename_axis(kind).reset_index(name="images")
    least = f" (the first {MAX_MATRIX} of {len(table):,})" if len(table) > MAX_MATRIX else ""
    return Table.of(f"Training images by {kind}{least}", table.head(MAX_MATRIX))


def _doubts(params: Params) -> reporting.Section:
    text = dict.fromkeys(("image_id", "file", "name", "given", "suggested"), str)
    found = pd.read_csv(layout.DOUBTS, dtype=text, keep_default_na=False)
    images = read_json(layout.metrics(layout.REVIEW))["images_doubted"]
    lines = [f"The out-of-fold predictions doubt labels of {images:,} training images. Nothing was left out for it."]
    if not images:
        return reporting.Section("Labels in doubt", lines)
    lines.append("`goulot drop ID...` leaves those out that you agree with, `goulot drop --doubted` all of them.")
    return reporting.Section(
        "Labels in doubt", lines, [Table.of(f"The most doubtful ({layout.DOUBTS})", found.head(params.rows))],
        [Picture.of("What was given, and what is suggested", layout.DOUBTS_SHEET)],
    )  # fmt: skip


def _submission(params: Params) -> reporting.Section:
    if not layout.SUBMISSION.is_file():
        return reporting.Section("Submission", ["There is no test set, and so nothing to submit."])
    rows = pd.read_csv(layout.SUBMISSION, dtype=str, keep_default_na=False)
    return reporting.Section(
        "Submission",
        [f"{layout.SUBMISSION}: {len(rows):,} rows."],
        [Table.of("Its first rows", rows.head(params.rows))],
    )


def _cost() -> reporting.Section:
    families = [("extract", "backbones"), ("learn", "learners"), ("finetune", "networks")]
    stages = ["fetch", "ingest", "augment", "audit", "split", "rank", "blend", "review", "submit"]
    stages += [f"{stage}@{name}" for stage, family in families for name in members(stage, family, least=0)]
    stages = [stage for stage in stages if layout.times(stage).is_file()]
    rows = [
        [stage, _seconds(stage), f"{read_json(layout.times(stage))['peak_bytes'] / 2**20:,.0f}"] for stage in stages
    ]
    return reporting.Section(
        "Cost",
        ["As of each stage's last run on this machine; a stage restored from the cache took none."],
        [Table("Time and memory", ["stage", "seconds", "peak memory (MiB)"], rows)],
    )


def _stage(name: str) -> str:
    """The stage behind a row of the leaderboard."""
    return name if name == "blend" or name.startswith("finetune@") else f"learn@{name}"


def _seconds(stage: str) -> str:
    path = layout.times(stage)
    return f"{read_json(path)['seconds']:.1f}" if path.is_file() else "cached"


def _print(board: pd.DataFrame) -> None:
    shown = _shown(board)[:3]
    titles = [metrics.find(name).title for name in shown]
    title = "Cross-validated scores (the blend's are nested)"
    table = TerminalTable("learner", "weight", *titles, "seconds", title=title)
    for row in board.to_dict("records"):
        name = str(row["learner"])
        numbers = [f"{row[key]:.4f}" for key in shown]
        weight = "" if np.isnan(row["weight"]) else f"{row['weight']:.2f}"
        table.add_row(name, weight, *numbers, _seconds(_stage(name)))
    console = Console(file=sys.stderr, width=None if sys.stderr.isatty() else 100)
    console.print(table)
    written = layout.SUBMISSION if layout.SUBMISSION.is_file() else "none, as there is no test set"
    console.print(f"submission: {written}\nreport:     {layout.REPORT_PAGE}", highlight=False)
