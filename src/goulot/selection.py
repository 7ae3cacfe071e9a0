"""Feature selection on the stack, as part of an estimator: it is fitted on the estimator's own rows alone.

After Evci, Dumoulin, Larochelle and Mozer, "Head2Toe: utilizing intermediate representations for better transfer
learning", ICML 2022: a linear model on all features says how much each matters, by the norm of its weights over all
outputs, and a share of them is kept. Ridge regression stands here in place of their group lasso.
"""

from dataclasses import replace
from typing import Self

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from goulot.learners import Context, Estimator, Factory

ALPHA = 300.0  # as the probe of `rank`


class Selected:
    """An estimator that sees a share of the features; the table's extra columns all stay."""

    def __init__(self, make: Factory, share: float, context: Context) -> None:
        self._make, self._share, self._context = make, share, context

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Choose the features, then fit on them."""
        width = X.shape[1] - self._context.extra
        wanted = np.eye(len(self._context.target.names))[y] if y.ndim == 1 else y
        weights = Ridge(alpha=ALPHA).fit(StandardScaler().fit_transform(X[:, :width]), wanted).coef_
        matters = np.linalg.norm(np.atleast_2d(weights), axis=0)
        first = np.argsort(-matters, kind="stable")[: max(1, round(self._share * width))]
        self._kept = np.r_[np.sort(first), width : X.shape[1]]
        watch = self._context.watch
        context = replace(self._context, watch=watch and replace(watch, X=watch.X[:, self._kept]))
        self._model: Estimator = self._make(context).fit(X[:, self._kept], y, groups)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float (rows, names), from the features that were kept."""
        return self._model.predict(X[:, self._kept])
