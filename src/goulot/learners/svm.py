"""A support vector machine with an RBF kernel, on per-fold principal components, calibrated inside the fold."""

from typing import Self

import numpy as np
from joblib import Parallel, delayed
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from goulot.folds import inner
from goulot.learners import Context, Estimator
from goulot.params import Section


class Params(Section):
    """Settings of the support vector machine."""

    components: int = Field(128, ge=2, description="principal components kept")
    C: float = Field(2.0, gt=0, description="penalty of a margin error")
    gamma: float = Field(0.5, gt=0, description="width of the kernel, in units of 1 / (components x variance)")
    inner_folds: int = Field(3, ge=2, le=10, description="splits of the training rows that calibrate the probabilities")


class Svm:
    """An SVC whose decision values become probabilities by Platt's method (Platt 1999).

    The calibrating decision values come from an inner split by groups: with scikit-learn's own `probability=True` the
    views of an image would stand on both sides of it.
    """

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit the machine on all rows, and its calibration on rows held out inside them."""
        splits = inner(y, groups, folds=self._params.inner_folds, seed=self._context.seed)
        parts = [(np.arange(len(y)), None), *splits]
        with Parallel(n_jobs=self._context.threads, prefer="threads") as pool:
            fitted = pool(delayed(self._machine)(X[rows], y[rows]) for rows, _ in parts)
        held_out = np.concatenate([rows for _, rows in splits])
        values = np.concatenate([_decide(m, X[rows]) for m, (_, rows) in zip(fitted[1:], splits, strict=True)])
        self._model = fitted[0]
        self._platt = LogisticRegression(C=1e6).fit(values, y[held_out])
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float (rows, classes)."""
        return np.asarray(self._platt.predict_proba(_decide(self._model, X)))

    def _machine(self, X: np.ndarray, y: np.ndarray) -> Pipeline:
        components = min(self._params.components, *X.shape)
        machine = SVC(C=self._params.C, gamma=self._params.gamma / components, cache_size=500)
        pca = PCA(components, svd_solver="randomized", random_state=self._context.seed)
        return make_pipeline(StandardScaler(), pca, _UnitVariance(), machine).fit(X, y)


class _UnitVariance(StandardScaler):  # type: ignore[misc]
    """One factor for all components, so that `gamma` means the same whatever the features' scale."""

    def fit(self, X: np.ndarray, y: object = None, sample_weight: object = None) -> Self:
        """Find the factor."""
        self.factor_ = float(X.std())
        return self

    def transform(self, X: np.ndarray, copy: object = None) -> np.ndarray:
        """Apply it."""
        return X / self.factor_


def _decide(model: Pipeline, X: np.ndarray) -> np.ndarray:
    values = np.asarray(model.decision_function(X))
    return values[:, None] if values.ndim == 1 else values


def make(params: Params, context: Context) -> Estimator:
    """A new support vector machine."""
    return Svm(params, context)
