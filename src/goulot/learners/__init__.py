"""The registry of learners. A learner is one entry here and one module of that name.

The module has `Params`, a section of `params.yaml`, and `make(params, context)`, which returns a new estimator. It is
imported only when it runs.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, Self

import numpy as np

from goulot.errors import ParamsError, choices
from goulot.params import parse
from goulot.targets import Target

KINDS = ("lightgbm", "logistic", "mlp", "svm")
# Those whose features the table's extra columns join; the others make a distance of all features alike.
TABULAR = ("lightgbm", "logistic")


@dataclass(frozen=True)
class Context:
    """What an estimator is made for: its randomness, its threads, what it learns, and how many columns are extra.

    The target's names are those that the rows can teach: each class occurs, and no label or number is constant.
    `extra` of the last columns come from the competition's table.
    """

    seed: int
    threads: int
    target: Target
    extra: int = 0


class Estimator(Protocol):
    """scikit-learn's contract, with groups and for every task."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit on rows; rows of one group belong together.

        X is float32 (rows, channels). y is class numbers (rows,), or float (rows, names): labels 0 or 1 each, or
        numbers of mean 0 and variance 1.
        """
        ...

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float (rows, names): probabilities that sum to 1, a probability each, or numbers."""
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
