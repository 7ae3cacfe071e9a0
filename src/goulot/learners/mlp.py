"""A torch head: one hidden layer on the standardised stack, the mean of a few seeds."""

from dataclasses import replace
from typing import Self

import numpy as np
import torch
from pydantic import Field
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from goulot.learners import Context, Estimator
from goulot.recipes import Recipe
from goulot.training import Dropout, Ensemble


class Params(Recipe):
    """Settings of the head."""

    hidden: int = Field(128, ge=1, description="hidden units")
    dropout: float = Field(0.5, ge=0, lt=1, description="of the input and of the hidden units")


class Mlp:
    """A small ensemble of heads."""

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit every member on all rows."""
        torch.set_num_threads(self._context.threads)
        self._scaler = StandardScaler().fit(X)
        watch = self._context.watch
        self._heads = Ensemble(
            self._params,
            lambda: self._head(X.shape[1]),
            self._context.target.task,
            seed=self._context.seed,
            balanced=self._context.balanced,
        ).fit(self._tensor(X).__getitem__, y, watch and replace(watch, X=self._tensor(watch.X).__getitem__))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Probabilities or numbers, float (rows, names): the members' mean."""
        return self._heads.predict(self._tensor(X).__getitem__, len(X))

    def _tensor(self, X: np.ndarray) -> Tensor:
        # A feature that hardly varied in training would otherwise put a new image far outside.
        return torch.from_numpy(self._scaler.transform(X).clip(-8, 8).astype(np.float32))

    def _head(self, width: int) -> nn.Module:
        p = self._params
        return nn.Sequential(
            Dropout(p.dropout), nn.Linear(width, p.hidden), nn.ReLU(),
            Dropout(p.dropout), nn.Linear(p.hidden, len(self._context.target.names)),
        )  # fmt: skip


def make(params: Params, context: Context) -> Estimator:
    """A new ensemble of heads."""
    return Mlp(params, context)
