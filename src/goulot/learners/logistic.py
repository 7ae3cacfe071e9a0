"""The linear learner on the standardised stack: logistic regression, for numbers ridge regression."""

from typing import Self

import numpy as np
from pydantic import Field
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from goulot import balance
from goulot.learners import Context, Estimator
from goulot.params import Section


class Params(Section):
    """Settings of the linear learner."""

    C: float = Field(0.001, gt=0, description="inverse of the ridge penalty")
    max_iter: int = Field(300, ge=1, description="iterations at most")


class Logistic:
    """scikit-learn's logistic regression, one for all classes or one a label; it has no use for groups."""

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._task, self._extra = params, context.target.task, context.extra
        self._balanced = context.balanced

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit on rows."""
        self._scaler = StandardScaler(copy=False)
        X = self._weighted(self._scaler.fit_transform(X.copy()))
        if self._task == "regression":
            self._models = [Ridge(alpha=1 / self._params.C).fit(X, y)]
        else:
            self._weights = balance.weights(y) if self._balanced else None
            counts = np.ones(y.shape) if self._weights is None else balance.of_rows(self._weights, y)
            columns = zip(np.atleast_2d(y.T), np.atleast_2d(counts.T), strict=True)
            self._models = [self._classifier().fit(X, column, sample_weight=count) for column, count in columns]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Probabilities or numbers, float (rows, names)."""
        X = self._weighted(self._scaler.transform(X.copy()))
        if self._task == "regression":
            return np.asarray(self._models[0].predict(X)).reshape(len(X), -1)
        parts = [model.predict_proba(X) for model in self._models]
        p = np.stack([part[:, 1] for part in parts], axis=1) if self._task == "multilabel" else np.asarray(parts[0])
        return balance.undone(p, self._weights)

    def _weighted(self, X: np.ndarray) -> np.ndarray:
        """Give the few columns of the table as much room under the ridge penalty as the many of the images."""
        if self._extra:
            X[:, -self._extra :] *= np.sqrt((X.shape[1] - self._extra) / self._extra)
        return X

    def _classifier(self) -> LogisticRegression:
        return LogisticRegression(C=self._params.C, max_iter=self._params.max_iter, tol=1e-3)


def make(params: Params, context: Context) -> Estimator:
    """A new linear learner; it is deterministic without a seed."""
    return Logistic(params, context)
