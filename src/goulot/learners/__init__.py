"""The registry of learners. A learner is one entry here and one module of that name.

The module has `Params`, a section of `params.yaml`, and `make(params, context)`, which returns a new estimator:
`fit(X, y, groups)` on float32 (rows, channels), class numbers (rows,) and the rows' groups, which an inner split must
not cut; then `predict_proba(X)`, float (rows, classes). It is imported only when it runs.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, Self

import numpy as np

from goulot.errors import ParamsError, choices
from goulot.params import parse

KINDS = ("lightgbm", "logistic", "mlp", "svm")


@dataclass(frozen=True)
class Context:
    """What an estimator is made for: its randomness, its threads and the number of classes."""

    seed: int
    threads: int
    classes: int


class Estimator(Protocol):
    """scikit-learn's contract, with groups."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit on rows; rows of one group belong together."""
        ...

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float (rows, classes), each row summing to 1."""
        ...


class Factory(Protocol):
    """Makes a new, unfitted estimator."""

    def __call__(self, context: Context) -> Estimator:
        """Make it."""
        ...


def factory(where: str, settings: dict[str, Any]) -> Factory:
    """The factory that a section of `params.yaml` describes. Raises ParamsError for an unknown kind or setting."""
    kind = str(settings.get("kind"))
    if kind not in KINDS:
        raise ParamsError(f"params.yaml: {where}.kind: {choices('learner', kind, KINDS, 'the learners are')}")
    module = import_module(f"goulot.learners.{kind}")
    params = parse(where, {key: value for key, value in settings.items() if key != "kind"}, module.Params)
    return lambda context: module.make(params, context)
