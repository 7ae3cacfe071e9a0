"""Support vector machines with an RBF kernel, on per-fold principal components, calibrated inside the fold."""

from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from goulot.errors import ParamsError
from goulot.folds import inner
from goulot.learners import Context, Estimator
from goulot.params import Section

MOST_CLASSES = 300  # a machine for each pair of classes: 44,850
VALUES = 2**24  # of all pairs at a time: 128 MiB


class Params(Section):
    """Settings of the support vector machines."""

    components: int = Field(128, ge=2, description="principal components kept")
    C: float = Field(2.0, gt=0, description="penalty of a margin error")
    gamma: float = Field(0.5, gt=0, description="width of the kernel, in units of 1 / (components x variance)")
    inner_folds: int = Field(3, ge=2, le=10, description="splits of the training rows that calibrate the probabilities")


class Svm:
    """An SVC, for labels one each, whose decision values become probabilities by Platt's method (Platt 1999).

    The calibrating decision values come from an inner split by groups: with scikit-learn's own `probability=True` the
    views of an image would stand on both sides of it. Numbers are predicted by an SVR each and need no calibration.
    """

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit the machine on all rows, and its calibration on rows held out inside them."""
        task, splits = self._context.target.task, []
        if task != "regression":
            folds = min(self._params.inner_folds, len(np.unique(groups)))
            splits = inner(y, groups, task=task, folds=folds, seed=self._context.seed)
        parts = [(np.arange(len(y)), None), *splits]
        with Parallel(n_jobs=self._context.threads, prefer="threads") as pool:
            fitted = pool(delayed(self._machine)(X[rows], y[rows]) for rows, _ in parts)
        self._model = fitted[0]
        if splits:
            values = np.concatenate([m.decide(X[rows]) for m, (_, rows) in zip(fitted[1:], splits, strict=True)])
            self._calibrate(values, y[np.concatenate([rows for _, rows in splits])])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Probabilities or numbers, float (rows, names)."""
        values, task = self._model.decide(X), self._context.target.task
        if task == "regression":
            return np.asarray(values)
        if task == "multilabel":
            columns = zip(self._platt, values.T, strict=True)
            return np.stack([platt.predict_proba(column[:, None])[:, 1] for platt, column in columns], axis=1)
        return np.asarray(self._platt[0].predict_proba(values))

    def _calibrate(self, values: np.ndarray, y: np.ndarray) -> None:
        pairs = [(values, y)] if y.ndim == 1 else [(v[:, None], t) for v, t in zip(values.T, y.T, strict=True)]
        self._platt = [LogisticRegression(C=1e6).fit(v, t) for v, t in pairs]

    def _machine(self, X: np.ndarray, y: np.ndarray) -> "_Machine":
        return _Machine(self._params, self._context).fit(X, y)


class _Machine:
    """The components of some rows and the machines on them."""

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        components = min(self._params.components, *X.shape)
        pca = PCA(components, svd_solver="randomized", random_state=self._context.seed)
        self._reduce = make_pipeline(StandardScaler(), pca, _UnitVariance())
        reduced = self._reduce.fit_transform(X)
        kind = SVR if self._context.target.task == "regression" else SVC
        settings: dict[str, Any] = {"C": self._params.C, "gamma": self._params.gamma / components, "cache_size": 500}
        if self._context.balanced:  # the calibration, which is not weighted, turns the probabilities back
            settings["class_weight"] = "balanced"
        columns = y[:, None] if y.ndim == 1 else y
        # What is constant in an inner split cannot be learned from it.
        self._machines = [
            kind(**settings).fit(reduced, column) if np.ptp(column) else None for column in columns.T
        ]  # fmt: skip
        return self

    def decide(self, X: np.ndarray) -> np.ndarray:
        """Decision values: one of two classes, one for each of more; one a label; the numbers themselves."""
        reduced, target = self._reduce.transform(X), self._context.target
        if target.exclusive:
            return self._of_classes(reduced)
        values = [np.zeros(len(X)) if m is None else _values(m, reduced) for m in self._machines]
        return np.stack(values, axis=1)

    def _of_classes(self, reduced: np.ndarray) -> np.ndarray:
        machine, classes = self._machines[0], len(self._context.target.names)
        if machine is None:
            return np.zeros((len(reduced), 1 if classes == 2 else classes))
        values = _values(machine, reduced)
        if values.ndim == 1 and classes > 2:
            values = np.stack([-values, values], axis=1)
        if values.ndim == 1 or values.shape[1] == classes:
            return values[:, None] if values.ndim == 1 else values
        every = np.full((len(values), classes), values.min())
        every[:, machine.classes_] = values
        return every


def _values(machine: SVC | SVR, X: np.ndarray) -> np.ndarray:
    """Decision values, the rows in parts: for each there is one value a pair of classes at first."""
    if not isinstance(machine, SVC):
        return np.asarray(machine.predict(X))
    classes = len(machine.classes_)
    step = max(1, VALUES // (classes * (classes - 1) // 2))
    return np.concatenate([machine.decision_function(X[i : i + step]) for i in range(0, len(X), step)])


class _UnitVariance(StandardScaler):  # type: ignore[misc]
    """One factor for all components, so that `gamma` means the same whatever the features' scale."""

    def fit(self, X: np.ndarray, y: object = None, sample_weight: object = None) -> Self:
        """Find the factor."""
        self.factor_ = float(X.std())
        return self

    def transform(self, X: np.ndarray, copy: object = None) -> np.ndarray:
        """Apply it."""
        return X / self.factor_


def make(params: Params, context: Context) -> Estimator:
    """New support vector machines. Raises ParamsError where there are too many classes for one of each pair."""
    classes = len(context.target.names)
    if context.target.exclusive and classes > MOST_CLASSES:
        raise ParamsError(
            f"svm fits a machine for each pair of classes, of which {classes:,} classes make "
            f"{classes * (classes - 1) // 2:,}; it takes {MOST_CLASSES} classes at most: take it out of learn.learners"
        )
    return Svm(params, context)
