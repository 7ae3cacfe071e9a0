"""What is predicted: the task, the names of what is predicted, and the training labels as arrays."""

import re
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from goulot import layout
from goulot.artifacts import read_json, write_json

Task = Literal["binary", "multiclass", "ordinal", "multilabel", "regression"]


@dataclass(frozen=True)
class Target:
    """The task and its names: the classes in their order, the labels of a multilabel task, or the columns of numbers.

    A prediction is float (n, len(names)): probabilities that sum to 1 (binary, multiclass, ordinal), a probability
    each (multilabel), or values (regression).
    """

    task: Task
    names: list[str]

    @property
    def exclusive(self) -> bool:
        """Whether an image has exactly one of the names, written in the manifest's column `label`."""
        return self.task in ("binary", "multiclass", "ordinal")

    @property
    def columns(self) -> list[str]:
        """The manifest's columns that hold the truth: `label`, or `y.<name>` each."""
        return ["label"] if self.exclusive else [f"y.{name}" for name in self.names]

    @property
    def outputs(self) -> list[str]:
        """The columns of a table of predictions: a name such as `fold` must not meet another column."""
        return [f"p.{name}" for name in self.names]

    def truth(self, manifest: pd.DataFrame) -> np.ndarray:
        """The rows' truth: class numbers int64 (n,), else float64 (n, len(names)); -1 or NaN where there is none."""
        if not self.exclusive:
            return manifest[self.columns].to_numpy(dtype=np.float64)
        numbers = {name: number for number, name in enumerate(self.names)}
        return manifest["label"].map(numbers).fillna(-1).to_numpy(dtype=np.int64)


def numbers_of(names: list[str]) -> list[float] | None:
    """The numbers that the names are; None where one is none."""
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def rising(names: list[str]) -> list[str] | None:
    """The names by their numbers; None where one is none."""
    numbers = numbers_of(names)
    return None if numbers is None else [name for _, name in sorted(zip(numbers, names, strict=True))]


def number_set(texts: set[str]) -> set[float] | None:
    """The numbers that the texts are; None where one is none, or is written with a leading zero as codes are."""
    try:
        numbers = {float(text) for text in texts}
    except ValueError:
        return None
    coded = any(re.fullmatch(r"0\d+", text.strip()) for text in texts)
    return None if coded or not all(np.isfinite(list(numbers))) else numbers


def write(target: Target) -> None:
    """Keep it beside the manifest."""
    write_json(layout.TARGET, asdict(target))


def read() -> Target:
    """The target that `ingest` found."""
    return Target(**read_json(layout.TARGET))
