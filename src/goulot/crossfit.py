"""Cross-fitting on the fold ledger: every row is predicted by a model that never saw it, its group or its views."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from goulot import decisions, extra, fitting, layout, metrics
from goulot.artifacts import write_json, write_table
from goulot.fitting import Inputs
from goulot.learners import Context, Factory
from goulot.ledger import Ledger
from goulot.recipes import Watch

WATCHED = 256  # images of a fold whose loss is looked at after each epoch: more would cost time and tell little
LOSSES = ["epoch", "training", "out_of_fold"]


@dataclass(frozen=True)
class Predictions:
    """Predictions of the images, float (images, names) each, in the form that `Target` gives.

    `oof` holds one row a training image in the ledger's order, `test` one a test image: the mean of the fold models'.
    `alone` is what `oof` were without augmented views at prediction; None where there are none. `losses` are those of
    estimators that are trained in epochs, the mean of their networks': fold and LOSSES.
    """

    oof: np.ndarray
    test: np.ndarray
    alone: np.ndarray | None = None
    losses: pd.DataFrame = field(default_factory=pd.DataFrame)


def cross_fit(factory: Factory, ledger: Ledger, inputs: Callable[[int], Inputs], *, folds: Iterable[int], seed: int,
              threads: int, table: pd.DataFrame | None = None, watch: bool = False,
              alone: Callable[[int], Inputs] | None = None) -> Predictions:  # fmt: skip
    """Fit a new estimator for each fold on the views of the other folds' images; predict the fold and the test set.

    `inputs` gives what the ledger's rows are in a fold, such as the columns that were chosen without it, side by side;
    beside them stand those of `table` (see extra.py). `folds` are the ledger's folds, wrapped in a progress display or
    not. An image's prediction is the mean over its views. With `watch`, estimators that are trained in epochs tell
    their losses, of the fold's images as well; that changes nothing of what they predict. Where a row is a mean of
    views, `alone` gives what it would be without them.
    """
    rows, y, target = ledger.rows, ledger.y, ledger.truth.target
    row_fold, image_of, itself = rows["fold"].to_numpy(), rows["image"].to_numpy(), rows["view"].to_numpy() == 0
    is_test = ledger.truth.fold == -1
    result = np.zeros((len(is_test), len(target.names)))
    plain, losses = np.zeros_like(result), []
    for fold in folds:
        train, predicted = (row_fold != -1) & (row_fold != fold), (row_fold == fold) | (row_fold == -1)
        X, context = inputs(fold), Context(seed=seed + fold, threads=threads, target=target)
        own = alone(fold)[predicted] if alone else None
        if table is not None:
            columns = extra.encode(table, image_of, train)
            X, context = np.hstack([np.asarray(X), columns]), replace(context, extra=columns.shape[1])
            own = None if own is None else np.hstack([np.asarray(own), columns[predicted]])
        if watch:
            held = _watched(rows, fold)
            context = replace(context, watch=Watch(X[held], y[held]))
        predict = fitting.fit(factory, context, X[train], y[train], rows["group"].to_numpy()[train])
        values = predict(X[predicted])
        means = _mean_by_image(values, image_of[predicted], len(is_test))
        share = np.where(is_test, 1 / len(ledger.folds), 1.0)[:, None]
        result += np.nan_to_num(means) * share
        images, single = itself[predicted], values if own is None else predict(own)
        plain += np.nan_to_num(_mean_by_image(single[images], image_of[predicted][images], len(is_test)))
        if context.watch and context.watch.losses:
            losses.append(_by_epoch(context.watch).assign(fold=fold)[["fold", *LOSSES]])
    said = pd.concat(losses) if losses else pd.DataFrame()
    viewed = alone is not None or not itself.all()
    return Predictions(result[~is_test], result[is_test], plain[~is_test] if viewed else None, said)


def together(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of folds that were fitted apart, in the folds' order, as one."""
    plain = [part.alone for part in parts if part.alone is not None]
    return Predictions(
        np.sum([part.oof for part in parts], axis=0),
        np.sum([part.test for part in parts], axis=0),
        np.sum(plain, axis=0) if plain else None,
        pd.concat([part.losses for part in parts], ignore_index=True),
    )


def _watched(rows: pd.DataFrame, fold: int) -> np.ndarray:
    """The numbers of the first rows of a fold's images: WATCHED of them at most, evenly spread."""
    first = np.flatnonzero((rows["fold"] == fold) & ~rows["image_id"].duplicated())
    return np.asarray(first[np.unique(np.linspace(0, len(first) - 1, WATCHED).astype(int))])


def _by_epoch(watch: Watch) -> pd.DataFrame:
    """The mean of the networks' losses: LOSSES, to six places."""
    return pd.DataFrame(watch.losses, columns=LOSSES).groupby("epoch", as_index=False).mean().round(6)


def _mean_by_image(values: np.ndarray, image: np.ndarray, count: int) -> np.ndarray:
    """Mean over the rows of each image, NaN where there is none; float (count, names)."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, image, values)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / np.bincount(image, minlength=count)[:, None])


def write(folder: Path, ledger: Ledger, predictions: Predictions) -> str:
    """Write oof.parquet, test.parquet and metrics.json, which the blend reads; return the first scores in words.

    Where there are losses by epoch, curve.csv has them.
    """
    oof, test = tables(ledger, predictions)
    write_table(folder / "oof.parquet", oof)
    write_table(folder / "test.parquet", test)
    if len(predictions.losses):
        write_table(layout.curve(folder), predictions.losses)
    y, target = ledger.truth.train.y, ledger.truth.target
    scores = decisions.every(y, predictions.oof, target)
    write_json(layout.metrics(folder), scores)
    if predictions.alone is None:
        return _said(scores)
    return f"{_said(scores)} (of the images without views: {_said(decisions.every(y, predictions.alone, target))})"


def _said(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{metrics.METRICS[name].title} {value:.4f}" for name, value in list(scores.items())[:3])


def tables(ledger: Ledger, predictions: Predictions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions with their ids: out-of-fold (image_id, fold, then `Target.outputs`) and test (image_id, ...)."""
    images, names = ledger.truth.images, ledger.truth.target.outputs
    train, test = (images[images["split"] == part] for part in ("train", "test"))
    oof = pd.DataFrame(predictions.oof, columns=names)
    oof.insert(0, "fold", train["fold"].to_numpy())
    oof.insert(0, "image_id", train["image_id"].to_numpy())
    held = pd.DataFrame(predictions.test, columns=names)
    held.insert(0, "image_id", test["image_id"].to_numpy())
    return oof, held
