"""LightGBM on per-fold principal components: trees cope badly with thousands of correlated columns."""

from typing import Self

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from pydantic import Field
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from goulot import balance
from goulot.errors import ParamsError
from goulot.learners import Context, Estimator
from goulot.params import Section

MOST_TREES = 60_000  # over all classes, labels or numbers


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
    """LightGBM, deterministic for a given number of threads; a model each for labels and numbers."""

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit on rows; nothing inside looks at held-out rows, so groups do not matter."""
        images, table = self._split(X)
        components = min(self._params.components, *images.shape)
        pca = PCA(components, svd_solver="randomized", random_state=self._context.seed)
        self._reduce = make_pipeline(StandardScaler(), pca)
        reduced = np.hstack([self._reduce.fit_transform(images), table])
        self._weights = balance.weights(y) if self._context.balanced else None
        counts = None if self._weights is None else balance.of_rows(self._weights, y).reshape(len(y), -1)
        columns = y[:, None] if y.ndim == 1 else y
        kind = LGBMRegressor if self._context.target.task == "regression" else LGBMClassifier
        self._models = [
            self._trees(kind).fit(reduced, column, sample_weight=None if counts is None else counts[:, number])
            for number, column in enumerate(columns.T)
        ]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Probabilities or numbers, float (rows, names)."""
        images, table = self._split(X)
        reduced, task = np.hstack([self._reduce.transform(images), table]), self._context.target.task
        if task == "regression":
            return np.stack([model.predict(reduced) for model in self._models], axis=1)
        parts = [np.asarray(model.predict_proba(reduced)) for model in self._models]
        p = np.stack([part[:, 1] for part in parts], axis=1) if task == "multilabel" else parts[0]
        return balance.undone(p, self._weights)

    def _split(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The images' features, of which components are made, and the table's columns, which the trees see as such."""
        width = X.shape[1] - self._context.extra
        return X[:, :width], X[:, width:]

    def _trees(self, kind: type[LGBMClassifier] | type[LGBMRegressor]) -> LGBMClassifier | LGBMRegressor:
        p = self._params
        return kind(
            n_estimators=p.trees, learning_rate=p.learning_rate, num_leaves=p.leaves, subsample=p.row_share,
            subsample_freq=1, colsample_bytree=p.column_share, reg_lambda=p.l2, min_child_samples=20,
            n_jobs=self._context.threads, random_state=self._context.seed, deterministic=True, force_col_wise=True,
            verbosity=-1,
        )  # fmt: skip


def make(params: Params, context: Context) -> Estimator:
    """New boosted trees. Raises ParamsError where the classes, labels or numbers would make too many of them."""
    count = 1 if context.target.task == "binary" else len(context.target.names)
    if params.trees * count > MOST_TREES:
        fix = f"set its trees to {MOST_TREES // count}, or take it" if count <= MOST_TREES else "take it"
        raise ParamsError(
            f"lightgbm: {params.trees} trees for each of {count:,} names make {params.trees * count:,}, more than "
            f"{MOST_TREES:,}; {fix} out of learn.learners"
        )
    return Boosted(params, context)
