"""Cross-fitting on the fold ledger: every row is predicted by a model that never saw it, its group or its views."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from goulot.features import Column, Features
from goulot.learners import Context, Factory
from goulot.ledger import Ledger


@dataclass(frozen=True)
class Predictions:
    """Probabilities of the images, float (images, classes) each.

    `oof` holds one row a training image in the ledger's order, `test` one a test image: the mean of the fold models'.
    """

    oof: np.ndarray
    test: np.ndarray


def cross_fit(factory: Factory, ledger: Ledger, features: Features, choice: Mapping[str, Sequence[Column]], *,
              folds: Iterable[int], seed: int, threads: int) -> Predictions:  # fmt: skip
    """Fit a new estimator for each fold on the views of the other folds' images; predict the fold and the test set.

    `folds` are the ledger's folds, wrapped in a progress display or not. An image's prediction is the mean over its
    views. Each fold stacks the columns that were chosen without it.
    """
    rows, y, classes = ledger.rows, ledger.y, len(ledger.truth.target.names)
    row_fold, image_of = rows["fold"].to_numpy(), rows["image"].to_numpy()
    is_test = ledger.truth.fold == -1
    result = np.zeros((len(is_test), classes))
    for fold in folds:
        train, predicted = (row_fold != -1) & (row_fold != fold), (row_fold == fold) | (row_fold == -1)
        X = features.read(choice[str(fold)])
        estimator = factory(Context(seed=seed + fold, threads=threads, classes=classes))
        estimator.fit(X[train], y[train], rows["group"].to_numpy()[train])
        means = _mean_by_image(estimator.predict_proba(X[predicted]), image_of[predicted], len(is_test))
        share = np.where(is_test, 1 / len(ledger.folds), 1.0)[:, None]
        result += np.nan_to_num(means) * share
    return Predictions(result[~is_test], result[is_test])


def _mean_by_image(values: np.ndarray, image: np.ndarray, count: int) -> np.ndarray:
    """Mean over the rows of each image, NaN where there is none; float (count, classes)."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, image, values)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / np.bincount(image, minlength=count)[:, None])


def tables(ledger: Ledger, predictions: Predictions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions with their ids: out-of-fold (image_id, fold, then a column a class) and test (image_id, ...)."""
    images, names = ledger.truth.images, ledger.truth.target.outputs
    train, test = (images[images["split"] == part] for part in ("train", "test"))
    oof = pd.DataFrame(predictions.oof, columns=names)
    oof.insert(0, "fold", train["fold"].to_numpy())
    oof.insert(0, "image_id", train["image_id"].to_numpy())
    held = pd.DataFrame(predictions.test, columns=names)
    held.insert(0, "image_id", test["image_id"].to_numpy())
    return oof, held
