"""Training of small networks on features: the losses of every kind of task, the mean of several seeds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid, mse_loss
from torch.optim.lr_scheduler import OneCycleLR

from goulot import balance
from goulot.recipes import MapRecipe, MapRows, Recipe, Watch
from goulot.targets import Task

Batches = Callable[[np.ndarray], Tensor]  # numbers of rows to their inputs

PREDICTED = 1024  # rows at a time


class Dropout(nn.Module):
    """Torch's, from uniform numbers: on a CPU it draws Bernoulli ones, which take several times as long."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Float, of any shape; what is left is scaled so that the expectation stays."""
        if not self.training or not self.p:
            return x
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


class Meter:
    """The mean loss over rows. It stays on the device until it is asked for: each question waits for a GPU."""

    def __init__(self, task: Task) -> None:
        self._task, self._rows, self._sum = task, 0, torch.zeros(())

    def add(self, raw: Tensor, targets: Tensor) -> None:
        """Count in a batch's raw output."""
        value = loss(self._task, raw.detach().float(), targets, 0.0) * len(targets)
        self._sum, self._rows = self._sum.to(value.device) + value, self._rows + len(targets)

    def mean(self) -> float:
        """NaN of no rows."""
        return float(self._sum) / self._rows if self._rows else float("nan")


class Ensemble:
    """Networks of one kind from different seeds; `build` makes one, in random weights."""

    def __init__(self, recipe: Recipe, build: Callable[[], nn.Module], task: Task, *, seed: int,
                 balanced: bool = False) -> None:  # fmt: skip
        self._recipe, self._build, self._task, self._balanced = recipe, build, task, balanced
        self._seeds = [seed * 1000 + member for member in range(recipe.members)]

    def fit(self, inputs: Batches, y: np.ndarray, watch: Watch | None = None) -> Self:
        """Train every member on all rows; y is as an `Estimator` is given it, `watch.X` gives its rows' inputs."""
        self._weights = balance.weights(y) if self._balanced else None
        self._members = [self._train(inputs, as_targets(y), seed, watch) for seed in self._seeds]
        return self

    def predict(self, inputs: Batches, rows: int) -> np.ndarray:
        """The members' mean, float (rows, names): probabilities or numbers."""
        with torch.inference_mode():
            parts = [
                torch.stack([output(self._task, member(batch)) for member in self._members]).mean(0).double()
                for batch in map(inputs, np.split(np.arange(rows), range(PREDICTED, rows, PREDICTED)))
            ]
        return balance.undone(torch.cat(parts).numpy(), self._weights)

    def _train(self, inputs: Batches, targets: Tensor, seed: int, watch: Watch | None) -> nn.Module:
        r, weights = self._recipe, as_weights(self._weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._build().train()
            optimizer = torch.optim.AdamW(
                network.parameters(), lr=r.learning_rate, weight_decay=r.weight_decay, fused=True
            )
            schedule = OneCycleLR(optimizer, r.learning_rate, total_steps=r.epochs * -(-len(targets) // r.batch))
            for epoch in range(1, r.epochs + 1):
                meter = Meter(self._task)
                for rows in torch.split(torch.randperm(len(targets)), r.batch):
                    raw = network(inputs(rows.numpy()))
                    value = loss(self._task, raw, targets[rows], r.smoothing, weights)
                    meter.add(raw, targets[rows])
                    optimizer.zero_grad()
                    value.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                if watch is not None:
                    watch.losses.append((epoch, meter.mean(), self._watched(network, watch)))
        return network.eval()

    def _watched(self, network: nn.Module, watch: Watch) -> float:
        """The loss of the watched rows; the network goes on training as if it had not been asked."""
        meter, targets = Meter(self._task), as_targets(watch.y)
        network.eval()
        with torch.inference_mode():
            for rows in np.split(np.arange(len(targets)), range(PREDICTED, len(targets), PREDICTED)):
                meter.add(network(watch.X(rows)), targets[rows])
        network.train()
        return meter.mean()


class MapEnsemble:
    """Networks on maps, of which only a batch is in memory. `build` takes a map's shape."""

    def __init__(self, recipe: MapRecipe, build: Callable[[tuple[int, int, int]], nn.Module], task: Task, *,
                 seed: int, threads: int, watch: Watch | None = None, balanced: bool = False) -> None:  # fmt: skip
        self._recipe, self._build, self._task, self._balanced = recipe, build, task, balanced
        self._seed, self._threads, self._watch = seed, threads, watch

    def fit(self, X: MapRows, y: np.ndarray, groups: np.ndarray) -> Self:
        """Train every member on all rows."""
        torch.set_num_threads(self._threads)
        networks = Ensemble(
            self._recipe, lambda: self._build(X.shape), self._task, seed=self._seed, balanced=self._balanced
        )
        watch = self._watch and replace(self._watch, X=_batches(self._watch.X))
        self._networks = networks.fit(_batches(X), y, watch)
        return self

    def predict(self, X: MapRows) -> np.ndarray:
        """Probabilities or numbers, float (rows, names): the members' mean."""
        return self._networks.predict(_batches(X), len(X))


def _batches(X: MapRows) -> Batches:
    return lambda rows: torch.from_numpy(X.read(rows))


def as_targets(y: np.ndarray) -> Tensor:
    """The truth, as an `Estimator` is given it, in the form that `loss` takes."""
    return torch.from_numpy(y.astype(np.int64 if y.ndim == 1 else np.float32))


def as_weights(weights: np.ndarray | None) -> Tensor | None:
    """Those of `balance.weights`, as `loss` takes them."""
    return None if weights is None else torch.from_numpy(weights.astype(np.float32))


def loss(task: Task, raw: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """The loss of a network's raw output (B, names): squared error of numbers, else cross-entropy.

    Targets are class numbers (B,), or labels, numbers or shares of classes (B, names).
    With class weights nothing is smoothed: of a rare class, whose probability is divided by a large weight afterwards,
    smoothing would leave little. The sum is over the rows, not over their weights, which differ from batch to batch.
    """
    if weights is not None:
        smoothing = 0.0
    if task == "regression":
        return mse_loss(raw, targets)
    if task == "multilabel":
        if weights is None:
            return binary_cross_entropy_with_logits(raw, targets * (1 - smoothing) + smoothing / 2)
        absent, present = weights.T
        likelihoods: Tensor = present * targets * logsigmoid(raw) + absent * (1 - targets) * logsigmoid(-raw)
        return -likelihoods.mean()
    if weights is not None:
        return cross_entropy(raw, targets, weight=weights, reduction="sum") / len(targets)
    return cross_entropy(raw, targets, label_smoothing=smoothing)


def output(task: Task, raw: Tensor) -> Tensor:
    """The raw output as probabilities that sum to 1, as a probability for each label, or as numbers."""
    return raw if task == "regression" else raw.sigmoid() if task == "multilabel" else raw.softmax(1)
