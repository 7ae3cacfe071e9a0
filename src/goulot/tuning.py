"""Tuning: an estimator whose settings are chosen by a cross-validation inside the rows that it is fitted on."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np

from goulot import fitting, folds, metrics
from goulot.learners import Context, Estimator, Factory

log = logging.getLogger("goulot")

FOLDS = 3


class Tuned:
    """The candidate that predicts best inside the rows; the first of equals, and where groups are too few to tell.

    Best is the least log-loss, of numbers the least mean squared error. Groups stay whole, so that an image's views
    and its duplicates are never on both sides.
    """

    def __init__(self, candidates: Mapping[str, Factory], context: Context) -> None:
        self._candidates, self._context = candidates, context

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray) -> Self:
        """Choose, then fit on all rows."""
        best = next(iter(self._candidates))
        if len(np.unique(groups)) >= FOLDS:
            splits = folds.inner(y, groups, task=self._context.target.task, folds=FOLDS, seed=self._context.seed)
            losses = {name: self._loss(make, splits, X, y, groups) for name, make in self._candidates.items()}
            best = min(losses, key=losses.__getitem__)
            log.info("chosen: %s (%s)", best, ", ".join(f"{name}: {loss:.4f}" for name, loss in losses.items()))
        self._model: Estimator = self._candidates[best](self._context).fit(X, y, groups)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Float (rows, names), by the candidate that was chosen."""
        return self._model.predict(X)

    def _loss(self, make: Factory, splits: list[tuple[np.ndarray, np.ndarray]], X: Any, y: np.ndarray,
              groups: np.ndarray) -> float:  # fmt: skip
        metric = metrics.METRICS["rmse" if self._context.target.task == "regression" else "log_loss"]
        context = replace(self._context, watch=None)  # the rows to watch are for the candidate that is chosen
        return float(np.mean([
            metric.loss(y[held], fitting.fit(make, context, X[rows], y[rows], groups[rows])(X[held]))
            for rows, held in splits
        ]))  # fmt: skip
