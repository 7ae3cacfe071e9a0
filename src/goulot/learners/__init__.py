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
from goulot.training import MapRecipe

KINDS = ("gru", "lenet5", "lightgbm", "logistic", "mlp", "svm")
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

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit on rows; rows of one group belong together.

        X is float32 (rows, channels), or MapRows where the learner reads a whole map. y is class numbers (rows,), or
        float (rows, names): labels 0 or 1 each, or numbers of mean 0 and variance 1.
        """
        ...

    def predict(self, X: Any) -> np.ndarray:
        """Float (rows, names): probabilities that sum to 1, a probability each, or numbers."""
        ...


class Factory(Protocol):
    """Makes a new, unfitted estimator."""

    def __call__(self, context: Context) -> Estimator:
        """Make it."""
        ...


@dataclass(frozen=True)
class Learner:
    """A learner as `params.yaml` describes it: how to make its estimators, and what those are fitted on.

    `map` is the backbone and the tap whose whole map they read, None for the stacked features; `tabular` tells whether
    the table's extra columns join those.
    """

    make: Factory
    map: tuple[str, str] | None
    tabular: bool


def find(where: str, settings: dict[str, Any]) -> Learner:
    """The learner that a section of `params.yaml` describes. Raises ParamsError for an unknown kind or setting."""
    kind = str(settings.get("kind"))
    if kind not in KINDS:
        raise ParamsError(f"params.yaml: {where}.kind: {choices('learner', kind, KINDS, 'the learners are')}")
    module = import_module(f"goulot.learners.{kind}")
    params = parse(where, {key: value for key, value in settings.items() if key != "kind"}, module.Params)
    reads = (params.backbone, params.tap) if isinstance(params, MapRecipe) else None
    return Learner(lambda context: module.make(params, context), reads, kind in TABULAR)
