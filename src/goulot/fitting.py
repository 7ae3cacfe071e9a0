"""Fitting: what rows can teach an estimator, whatever classes, labels or numbers they lack."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from goulot.learners import Context, Estimator, Factory
from goulot.recipes import MapRows, Watch
from goulot.targets import Target

Inputs = np.ndarray | MapRows  # rows of stacked features, or of one whole map
Predictor = Callable[[Inputs], np.ndarray]


def fit(factory: Factory, context: Context, X: Inputs, y: np.ndarray, groups: np.ndarray) -> Predictor:
    """Fit on rows what they can teach; what predicts others, float (rows, names).

    Of a class that is not among them the probability is 0. A label or number that is constant in them stays so. Numbers
    stay in the range that was seen, beyond which a linear learner would go on without end. What the context watches is
    in the terms of the rows here, and goes on to the estimator in its own.
    """
    target, watch = context.target, context.watch

    def estimator(y: np.ndarray, known: np.ndarray, watch: Watch | None) -> Estimator:
        part = Target(target.task, [target.names[number] for number in known])
        return factory(replace(context, target=part, watch=watch)).fit(X, y, groups)

    if target.exclusive:
        known, numbers = np.unique(y, return_inverse=True)
        model = estimator(numbers, known, watch and _of_classes(watch, known)) if len(known) > 1 else None

        def classes(X: Inputs) -> np.ndarray:
            result = np.zeros((len(X), len(target.names)))
            if len(X):  # scikit-learn refuses to predict no rows at all, as a competition without test images has them
                result[:, known] = model.predict(X) if model else 1.0
            return result

        return classes
    low, high, mean, spread = y.min(axis=0), y.max(axis=0), y.mean(axis=0), y.std(axis=0)
    known = np.flatnonzero(high > low)
    labels = target.task == "multilabel"
    shift, scale = (0.0, 1.0) if labels else (mean[known], np.where(spread > 0, spread, 1)[known])

    def scaled(y: np.ndarray) -> np.ndarray:
        return np.asarray((y[:, known] - shift) / scale)

    watch = watch and replace(watch, y=scaled(watch.y))
    model = estimator(scaled(y), known, watch) if len(known) else None

    def values(X: Inputs) -> np.ndarray:
        result = np.tile(mean, (len(X), 1))
        if model and len(X):
            result[:, known] = model.predict(X) * scale + shift
        return result.clip(low, high)

    return values


def _of_classes(watch: Watch, known: np.ndarray) -> Watch | None:
    """Those rows of it whose class is among the known ones, by its place there; None where there are none."""
    rows = np.isin(watch.y, known)
    if not rows.any():
        return None
    return replace(watch, X=watch.X[rows], y=np.searchsorted(known, watch.y[rows]))
