"""LightGBM on per-fold principal components: trees cope badly with thousands of correlated columns."""

from typing import Self

import numpy as np
from lightgbm import LGBMClassifier
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from goulot.learners import Context, Estimator
from goulot.params import Section


class Params(Section):
    """Settings of the boosted trees."""

    components: int = Field(128, ge=2, description="principal components kept")
    trees: int = Field(300, ge=1, description="rounds of boosting")
    learning_rate: float = Field(0.04, gt=0, le=1)
    leaves: int = Field(15, ge=2, description="leaves of a tree")
    row_share: float = Field(0.7, gt=0, le=1, description="share of the rows that a tree sees")
    column_share: float = Field(0.3, gt=0, le=1, description="share of the components that a tree sees")
    l2: float = Field(10.0, ge=0, description="penalty on a leaf's weight")


class Boosted:
    """LightGBM, deterministic for a given number of threads."""

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit on rows; nothing inside looks at held-out rows, so groups do not matter."""
        p, seed = self._params, self._context.seed
        pca = PCA(min(p.components, *X.shape), svd_solver="randomized", random_state=seed)
        trees = LGBMClassifier(
            n_estimators=p.trees, learning_rate=p.learning_rate, num_leaves=p.leaves, subsample=p.row_share,
            subsample_freq=1, colsample_bytree=p.column_share, reg_lambda=p.l2, min_child_samples=20,
            n_jobs=self._context.threads, random_state=seed, deterministic=True, force_col_wise=True, verbosity=-1,
        )  # fmt: skip
        self._reduce = make_pipeline(StandardScaler(), pca)
        self._trees = trees.fit(self._reduce.fit_transform(X), y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float (rows, classes)."""
        return np.asarray(self._trees.predict_proba(self._reduce.transform(X)))


def make(params: Params, context: Context) -> Estimator:
    """New boosted trees."""
    return Boosted(params, context)
