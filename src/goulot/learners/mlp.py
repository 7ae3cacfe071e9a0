"""A torch head: one hidden layer on the standardised stack, the mean of a few seeds."""

from typing import Self

import numpy as np
import torch
from pydantic import Field
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.optim.lr_scheduler import OneCycleLR

from goulot.learners import Context, Estimator
from goulot.params import Section


class Params(Section):
    """Settings of the head."""

    hidden: int = Field(128, ge=1, description="hidden units")
    dropout: float = Field(0.5, ge=0, lt=1, description="of the input and of the hidden units")
    epochs: int = Field(8, ge=1)
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0, description="largest rate of the one-cycle schedule")
    weight_decay: float = Field(0.1, ge=0)
    smoothing: float = Field(0.05, ge=0, lt=1, description="label smoothing of classes and labels")
    members: int = Field(3, ge=1, le=50, description="heads trained from different seeds and averaged")


class Mlp:
    """A small ensemble of heads; a fixed number of epochs, so that no row decides when to stop."""

    def __init__(self, params: Params, context: Context) -> None:
        self._params, self._context = params, context

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Fit every member on all rows."""
        torch.set_num_threads(self._context.threads)
        self._scaler = StandardScaler().fit(X)
        inputs, targets = self._tensor(X), torch.from_numpy(y.astype(np.int64 if y.ndim == 1 else np.float32))
        seeds = [self._context.seed * 1000 + member for member in range(self._params.members)]
        self._heads = [self._train(inputs, targets, seed) for seed in seeds]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Probabilities or numbers, float (rows, names): the members' mean."""
        inputs = self._tensor(X)
        with torch.inference_mode():
            return torch.stack([self._output(head(inputs)) for head in self._heads]).mean(0).double().numpy()

    def _output(self, raw: Tensor) -> Tensor:
        task = self._context.target.task
        return raw if task == "regression" else raw.sigmoid() if task == "multilabel" else raw.softmax(1)

    def _loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        smoothing, task = self._params.smoothing, self._context.target.task
        if task == "regression":
            return mse_loss(raw, targets)
        if task == "multilabel":
            return binary_cross_entropy_with_logits(raw, targets * (1 - smoothing) + smoothing / 2)
        return cross_entropy(raw, targets, label_smoothing=smoothing)

    def _tensor(self, X: np.ndarray) -> Tensor:
        # A feature that hardly varied in training would otherwise put a new image far outside.
        return torch.from_numpy(self._scaler.transform(X).clip(-8, 8).astype(np.float32))

    def _train(self, inputs: Tensor, targets: Tensor, seed: int) -> nn.Module:
        p = self._params
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Sequential(
                nn.Dropout(p.dropout), nn.Linear(inputs.shape[1], p.hidden), nn.ReLU(),
                nn.Dropout(p.dropout), nn.Linear(p.hidden, len(self._context.target.names)),
            )  # fmt: skip
            optimizer = torch.optim.AdamW(head.parameters(), lr=p.learning_rate, weight_decay=p.weight_decay)
            steps = -(-len(inputs) // p.batch)
            schedule = OneCycleLR(optimizer, p.learning_rate, total_steps=p.epochs * steps)
            for _ in range(p.epochs):
                for rows in torch.split(torch.randperm(len(inputs)), p.batch):
                    loss = self._loss(head(inputs[rows]), targets[rows])
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
        return head.eval()


def make(params: Params, context: Context) -> Estimator:
    """A new ensemble of heads."""
    return Mlp(params, context)
