"""The registry of learners. A learner is one entry here and one module of that name.

The module has `Params`, a section of `params.yaml`, and `make(params, context)`, which returns a new estimator. It is
imported only when it runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any, Literal, Protocol, Self

import numpy as np
from pydantic import ConfigDict, Field

from goulot.balance import ClassWeight
from goulot.errors import ParamsError, choices
from goulot.params import Section, parse
from goulot.recipes import MapRecipe, Watch
from goulot.targets import Target

KINDS = ("gru", "lenet5", "lightgbm", "logistic", "mlp", "svm")
# Those whose features the table's extra columns join; the others make a distance of all features alike.
TABULAR = ("lightgbm", "logistic")


@dataclass(frozen=True)
class Context:
    """What an estimator is made for: its randomness, its threads, what it learns, and how many columns are extra.

    The target's names are those that the rows can teach: each class occurs, and no label or number is constant.
    `extra` of the last columns come from the competition's table. Estimators that are trained in epochs note their
    losses in `watch`, where there is one. `balanced`: rare classes and labels count as much as common ones.
    """

    seed: int
    threads: int
    target: Target
    extra: int = 0
    watch: Watch | None = None
    balanced: bool = False


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


class LearnerParams(Section):
    """A learner's kind, what it is fitted on, and the settings of that kind, which its own module checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(description="the learner's module")
    views: Literal["rows", "mean"] = Field("rows", description="a row a view, or the mean of an image's views")
    select: float = Field(1.0, gt=0, le=1, description="share of the features that is kept, chosen inside each fold")
    class_weight: ClassWeight | None = Field(
        None, description="balanced: rare classes and labels count as much as common ones in the fit"
    )
    tune: dict[str, list[Any]] = Field({}, description="settings and their candidates, tried inside each fold")

    def candidates(self) -> dict[str, dict[str, Any]]:
        """The settings of the kind, by what tells them apart: one, or every combination of the candidates."""
        fixed = dict(self.model_extra or {})
        if not self.tune:
            return {"": fixed}
        grid = [dict(zip(self.tune, values, strict=True)) for values in product(*self.tune.values())]
        return {", ".join(f"{key} {value}" for key, value in tried.items()): {**fixed, **tried} for tried in grid}


@dataclass(frozen=True)
class Learner:
    """A learner as `params.yaml` describes it: what makes its estimators, and what those are fitted on.

    `makers` has an entry for each candidate of its settings, one if there is nothing to choose. `map` is the backbone
    and the tap whose whole map they read, None for the stacked features; `tabular` tells whether the table's extra
    columns join those; `means` whether a row is the mean of an image's views; `share` how much of the stack is kept.
    """

    makers: dict[str, Factory]
    map: tuple[str, str] | None
    tabular: bool
    means: bool
    share: float

    @property
    def make(self) -> Factory:
        """What makes the estimators of the first candidate."""
        return next(iter(self.makers.values()))


def find(where: str, settings: dict[str, Any]) -> Learner:
    """The learner that a section of `params.yaml` describes. Raises ParamsError for an unknown kind or setting."""
    described = parse(where, settings, LearnerParams)
    if described.kind not in KINDS:
        raise ParamsError(f"params.yaml: {where}.kind: {choices('learner', described.kind, KINDS, 'the learners are')}")
    module = import_module(f"goulot.learners.{described.kind}")
    if empty := [key for key, values in described.tune.items() if not values]:
        raise ParamsError(f"params.yaml: {where}.tune.{empty[0]} is [], with nothing to choose from")
    sections = {name: parse(where, tried, module.Params) for name, tried in described.candidates().items()}
    params = next(iter(sections.values()))
    reads = (params.backbone, params.tap) if isinstance(params, MapRecipe) else None
    if reads and (described.views == "mean" or described.select < 1 or {"backbone", "tap"} & described.tune.keys()):
        raise ParamsError(f"params.yaml: {where} reads a whole map, {'.'.join(reads)}: one, and of each view by itself")
    makers: dict[str, Factory] = {name: partial(module.make, section) for name, section in sections.items()}
    if described.class_weight == "balanced":
        makers = {name: partial(_balanced, make, where) for name, make in makers.items()}
    return Learner(makers, reads, described.kind in TABULAR, described.views == "mean", described.select)


def _balanced(make: Factory, where: str, context: Context) -> Estimator:
    if context.target.task == "regression":
        raise ParamsError(
            f"params.yaml: {where}.class_weight is for classes and labels, and the target is numbers; omit it"
        )
    return make(replace(context, balanced=True))


def refused(settings: Mapping[str, Any], target: Target) -> dict[str, str]:
    """Of the learners of `params.yaml`, by name, those that do not take so many names, and why."""
    found = {}
    for name, section in settings.items():
        learner = find(f"learn.learners.{name}", section)
        try:
            for make in learner.makers.values():
                make(Context(seed=0, threads=1, target=target))
        except ParamsError as error:
            found[name] = str(error)
    return found
