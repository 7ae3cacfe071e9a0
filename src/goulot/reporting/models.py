"""Section: how the learners and their blend do, and where they are wrong."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from goulot import layout
from goulot.artifacts import read_json
from goulot.reporting import attention, charts, curves
from goulot.reporting.finished import Run
from goulot.reporting.page import Block, Chart, Gallery, Matrix, Section, Table, cell

MATRIX = 30  # names of a matrix; rows of a table by class
CURVES = 5  # classes or labels with curves of their own
NUMBERS = 4  # columns of a regression that are drawn
MISTAKES, SIDE = 18, 112


def section(run: Run) -> Section:
    """Scores by fold, the members' errors, weights and training, what the task calls for, and the worst mistakes."""
    blocks = [
        _folds(run), *_weights(run), *_correlation(run), *curves.blocks(run), *_by_task(run), *_mistakes(run)
    ]  # fmt: skip
    return Section("Models", ["All of it is out of fold: no image is judged by what saw it."], blocks)


def _folds(run: Run) -> Table:
    rows = {name: judged.by_fold for name, judged in run.judged.items()}
    table = pd.DataFrame(rows).T.rename(columns=lambda f: f"fold {f}").rename_axis("learner").reset_index()
    sizes = ", ".join(f"{count:,}" for count in np.bincount(run.known.fold))
    return Table.of(f"{run.metric.title} in each fold ({sizes} images)", table)


def _weights(run: Run) -> Iterator[Table]:
    """The ways to blend with their scores, and the members' weights, which stackers do not have."""
    found, rivals = read_json(layout.BLEND_WEIGHTS), read_json(layout.metrics(layout.BLEND))["rivals"]
    if rivals:
        taken = [fold["method"] for fold in found["folds"]]
        rows = [(name, taken.count(name), "taken" if name == found["method"] else "", score)
                for name, score in rivals.items()]  # fmt: skip
        table = pd.DataFrame(rows, columns=["way to blend", "folds that took it", "on all rows", "cross-validated"])
        yield Table.of(f"Ways to blend ({run.metric.title}), the simplest within a standard error taken", table)
    if found["all"] is None:
        return
    folds = pd.DataFrame([fold["weights"] for fold in found["folds"] if fold["weights"]], columns=list(found["all"]))
    weights = sorted(found["all"].items(), key=lambda item: -item[1])
    spread = [f"{folds[name].min():.2f} to {folds[name].max():.2f}" if len(folds) else "" for name, _ in weights]
    table = pd.DataFrame([(name, apart, weight) for (name, weight), apart in zip(weights, spread, strict=True)],
                         columns=["learner", "over the folds", "weight"])  # fmt: skip
    yield Table.of("Weights of the blend", table, bars=[weight for _, weight in weights])


def _correlation(run: Run) -> Iterator[Matrix]:
    """How alike the members' errors are: what is alike adds little to a blend."""
    names = run.members[:MATRIX]
    if len(names) < 2:
        return
    with np.errstate(invalid="ignore"):
        found = np.nan_to_num(np.corrcoef([run.judged[name].errors for name in names]))
    cells = [[f"{value:.2f}" for value in row] for row in found]
    yield Matrix(
        "Correlation of the members' errors: the less alike, the more a blend gains",
        "learner",
        names,
        cells,
        found.clip(0, 1),
    )


def _by_task(run: Run) -> Iterator[Block]:
    target = run.known.target
    if target.task == "regression":
        yield from _numbers(run)
    elif target.task == "multilabel":
        yield from _labels(run)
    else:
        yield from _classes(run)


def _numbers(run: Run) -> Iterator[Block]:
    names = run.known.target.names
    for name, y, p in list(zip(names, run.known.y.T, run.p.T, strict=True))[:NUMBERS]:
        predicted = f"predicted {name}"
        svg = charts.cloud(y, p, (f"actual {name}", predicted), diagonal=True)
        yield Chart(f"{name}: predicted against actual", svg)
        svg = charts.cloud(p, p - y, (predicted, "predicted less actual"), diagonal=False)
        yield Chart(f"{name}: residuals", svg)
    if len(names) > NUMBERS:
        yield Table("Columns that are not drawn", ["number"], [[name] for name in names[NUMBERS:]])


def _labels(run: Run) -> Iterator[Block]:
    table = pd.read_csv(layout.BLEND_LABELS, dtype={"label": str}, keep_default_na=False, na_values={"roc_auc": [""]})
    first = f" (the {MATRIX} worst of {len(table):,})" if len(table) > MATRIX else ""
    yield Table.of(f"Labels, by ROC AUC{first}", table.sort_values("roc_auc").head(MATRIX))
    yield Chart("Calibration over all labels", charts.calibration(run.known.y.ravel() == 1, run.p.ravel(), "a label"))
    yield from _curves(run, "labels")


def _classes(run: Run) -> Iterator[Block]:
    target, y = run.known.target, run.known.y
    yield from _confusion(target.names, y, run.guesses)
    if len(target.names) > 2:
        yield _by_class(run)
    right = charts.calibration(y == run.p.argmax(1), run.p.max(1), "the likeliest class")
    yield Chart("Calibration: how often the likeliest class is right, by its probability", right)
    if target.task != "ordinal":
        yield from _curves(run, "classes")


def _confusion(names: list[str], y: np.ndarray, guesses: np.ndarray) -> Iterator[Block]:
    """A matrix of few classes; of many, the pairs that are confused most."""
    if len(names) <= MATRIX:
        counts = np.zeros((len(names), len(names)), int)
        np.add.at(counts, (y, guesses), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = [[cell(count) for count in row] for row in counts]
        yield Matrix("Confusion matrix: actual classes down, decided ones across", "actual", names, cells, shares)
        return
    named = np.array(names, dtype=object)
    wrong = pd.DataFrame({"actual": named[y], "decided": named[guesses]})[y != guesses]
    if len(wrong):
        pairs = wrong.value_counts().reset_index(name="images").head(MATRIX)
        yield Table.of(f"The classes that are confused most (the first {len(pairs)} pairs)", pairs)


def _by_class(run: Run) -> Table:
    y, names = run.known.y, run.known.target.names
    right, decided = (np.bincount(rows, minlength=len(names)) for rows in (y[y == run.guesses], run.guesses))
    table = pd.DataFrame({
        "class": names, "images": run.counts, "recall": right / np.maximum(run.counts, 1),
        "precision": np.where(decided, right / np.maximum(decided, 1), np.nan),
    })  # fmt: skip
    first = f" (the {MATRIX} worst of {len(names):,})" if len(names) > MATRIX else ""
    return Table.of(f"Classes, by recall{first}", table.sort_values(["recall", "images"]).head(MATRIX))


def _curves(run: Run, kind: str) -> Iterator[Chart]:
    """ROC and precision-recall: of the most frequent ones that have rows of both kinds; of two classes, by member."""
    names = run.known.target.names
    both = [i for i in np.argsort(-run.counts, kind="stable").tolist() if 0 < run.counts[i] < len(run.p)]
    if not both:
        return
    if run.known.target.task == "binary":
        order = run.board.sort_values(run.metric.name, ascending=not run.metric.greater_is_better)["learner"]
        best = ["blend", *(str(name) for name in order if name != "blend")][:CURVES]
        chosen = [(name, run.inside(1), run.predictions(name)[:, 1]) for name in best]
        of = f" of {names[1]}, by the blend and its best members"
    else:
        chosen = [(names[i], run.inside(i), run.p[:, i]) for i in both[:CURVES]]
        of = f", the {CURVES} most frequent of {len(names):,} {kind}" if len(both) > CURVES else ""
    yield Chart(f"ROC curve{of}, with the area", charts.roc(chosen))
    yield Chart(f"Precision and recall{of}, with the average precision", charts.precision_recall(chosen))


def _mistakes(run: Run) -> Iterator[Gallery]:
    """The images whose truth the blend thought least likely, or that it missed by most."""
    y, p, target = run.known.y, run.p, run.known.target
    if target.exclusive:
        wrong, badness = run.guesses != y, 1 - p[np.arange(len(y)), y]
    elif target.task == "multilabel":
        badness = np.abs(p - y).max(axis=1)
        wrong = badness > 0.5
    else:
        badness = (np.abs(p - y) / np.maximum(y.std(axis=0), 1e-12)).max(axis=1)
        wrong = badness > 0
    rows = np.flatnonzero(wrong)
    rows = rows[np.argsort(-badness[rows], kind="stable")][:MISTAKES]
    if not len(rows):
        return
    ids = run.known.images["image_id"].iloc[rows].tolist()
    shown = [f"is {run.said(y[i])}, taken for {_taken_for(run, int(i))}" for i in rows]
    caption = f"The worst mistakes ({len(rows)} of {int(wrong.sum()):,})"
    if target.task == "regression":
        caption = f"The {len(rows)} images furthest off, in standard deviations of the actual numbers"
    network, over = attention.overlays(run, ids, SIDE)
    items = run.thumbnails(ids, shown, SIDE)
    if network:
        caption += f"; below each, bright is where {network} found what it predicts"
        items = [replace(item, over=second) for item, second in zip(items, over, strict=True)]
    yield Gallery(caption, "training image", items)


def _taken_for(run: Run, row: int) -> str:
    target, p = run.known.target, run.p[row]
    if target.exclusive:
        guess = int(run.guesses[row])
        return f"{target.names[guess]} ({p[guess]:.0%})"
    if target.task == "multilabel":
        return ", ".join(f"{target.names[i]} {p[i]:.0%}" for i in np.argsort(-p)[:3])
    return run.said(p)
