"""Logistic regression on the standardised stack."""

from typing import Self

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from goulot.learners import Context, Estimator
from goulot.params import Section


class Params(Section):
    """Settings of the logistic regression."""

    C: float = Field(0.001, gt=0, description="inverse of the ridge penalty")
    max_iter: int = Field(300, ge=1, description="iterations at most")


class Logistic:
    """scikit-learn's logistic regression; it has no use for groups."""

    def __init__(self, params: Params) -> None:
        self._model = make_pipeline(
            StandardScaler(copy=False), LogisticRegression(C=params.C, max_iter=params.max_iter, tol=1e-3)
        )

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit on rows."""
        self._model.fit(X.copy(), y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float (rows, classes)."""
        return np.asarray(self._model.predict_proba(X.copy()))


def make(params: Params, context: Context) -> Estimator:
    """A new logistic regression; it is deterministic without a seed."""
    return Logistic(params)
