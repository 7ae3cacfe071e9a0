"""What training is given: recipes, rows of whole maps, rows to watch.

Kept from `training`, so that a stage that only names them need not load torch.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from goulot.params import Section


class Recipe(Section):
    """How a network is trained: AdamW on the one-cycle schedule (Smith 2018), for a fixed number of epochs.

    Nothing stops early, so that no row decides when.
    """

    epochs: int = Field(8, ge=1)
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0, description="largest rate of the one-cycle schedule")
    weight_decay: float = Field(0.1, ge=0)
    smoothing: float = Field(0.05, ge=0, lt=1, description="label smoothing of classes and labels")
    members: int = Field(3, ge=1, le=50, description="networks trained from different seeds and averaged")


class MapRecipe(Recipe):
    """How a network is trained on a map, and which: one that `extract.backbones.<backbone>.maps` keeps."""

    backbone: str = Field(description="a name below extract.backbones")
    tap: str = Field(description="the depth, e.g. s5")


class MapRows(Protocol):
    """Rows of whole maps that are read when they are wanted (see features.Maps)."""

    shape: tuple[int, int, int]

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, rows: np.ndarray) -> "MapRows":
        """Those rows alone, by number or as a mask."""
        ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Some of them, float32 (len(rows), channels, height, width)."""
        ...


@dataclass(frozen=True)
class Watch:
    """Rows that an estimator is not fitted on, and where one that is trained in epochs notes its losses after each.

    The rows choose nothing: their loss is shown, and no more. X and y are as `Estimator.fit` is given them. An entry of
    `losses` is the epoch, from 1, the training loss and the rows'. Both are of the truth as it is, without smoothing;
    the training loss is met on the way, with dropout where there is some.
    """

    X: Any
    y: np.ndarray
    losses: list[tuple[int, float, float]] = field(default_factory=list)
