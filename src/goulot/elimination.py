"""Elimination: in which order channels can go, by what the layers that read them lose, and how others make up for it.

A layer reads x and gives W x. What it loses with a channel is what W x changes by in the mean square when it is left
out and the others take its part as well as they can, that is, by the channel's least-squares regression on them.
Channels go cheapest first, W and the others' regressions following, so that of two that say the same one stays.
This is the optimal brain surgeon (Hassibi and Stork 1993), taken layer by layer (Dong, Chen and Pan 2017) and by whole
channels; that least squares make up for channels removed is due to He, Zhang and Sun (2017, "Channel Pruning").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RIDGE = 0.1  # added to the second moments, times their mean and the channels a row seen: few rows tell less
LEAST = 0.1  # share of the channels that always stays
STEPS = 128  # channels go in at most about so many steps
TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Moments:
    """Of a layer's input x over so many rows: the mean of x x^T, float64 (channels, channels)."""

    square: Tensor
    rows: int

    @property
    def ridge(self) -> float:
        """What is added to the diagonal."""
        return RIDGE * len(self.square) / self.rows * float(self.square.diagonal().mean()) or 1.0

    def ridged(self) -> Tensor:
        """Made invertible; the less was seen, the less the others are trusted with a channel's part."""
        return self.square + self.ridge * torch.eye(len(self.square), dtype=torch.float64)


class Reader:
    """A layer that reads a group's channels: what it loses with each, and itself without those that are gone."""

    def __init__(self, weight: Tensor, seen: Moments, inputs: Sequence[int]) -> None:
        """`weight` (outputs, inputs, ...) is the layer's, `inputs` its own numbers of the group's channels."""
        self._inputs = torch.tensor(inputs)
        rows = weight.reshape(*weight.shape[:2], -1).transpose(1, 2).reshape(-1, weight.shape[1]).double()
        # Only the products of its columns matter, and those of the triangle are the same.
        self._weight: Tensor = torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows
        self._inverse, self._ridge = torch.linalg.inv(seen.ridged()), seen.ridge
        self._total = float((self._weight.T @ self._weight * seen.square).sum()) or 1.0

    def cost(self) -> Tensor:
        """What each channel takes of the mean square of the output, as a share of it, float64 (channels,)."""
        inverse = self._inverse.diagonal()[self._inputs].clamp(min=TINY)
        alone = (1 / inverse - self._ridge).clamp(min=0)  # the mean square of what the others do not tell of it
        cost: Tensor = self._weight[:, self._inputs].square().sum(0) * alone / self._total
        return cost

    def remove(self, channels: Tensor) -> None:
        """Leave channels out; the others take their part."""
        gone = self._inputs[channels]
        part = torch.linalg.solve(self._inverse[gone][:, gone], self._inverse[gone])  # (gone, inputs)
        self._weight -= self._weight[:, gone] @ part
        self._inverse -= self._inverse[:, gone] @ part
        self._weight[:, gone] = 0
        self._inverse[gone] = 0
        self._inverse[:, gone] = 0


def eliminate(readers: Sequence[Reader], channels: int) -> tuple[list[int], list[float]]:
    """The channels in the order in which they go, without the tenth that stays, and the largest cost of one by then."""
    order: list[int] = []
    cost: list[float] = []
    gone = torch.zeros(channels, dtype=torch.bool)
    most, step = int(channels * (1 - LEAST)), 1 + channels // STEPS
    while len(order) < most:
        costs = torch.stack([reader.cost() for reader in readers]).sum(0)
        costs[gone] = torch.inf
        cheapest = costs.argsort(stable=True)[: min(step, most - len(order))]
        for reader in readers:
            reader.remove(cheapest)
        gone[cheapest] = True
        order += cheapest.tolist()
        cost += costs[cheapest].tolist()
    return order, np.maximum.accumulate(cost).tolist() if cost else []


def made_up(weight: Tensor, inputs: np.ndarray, seen: Moments) -> Tensor:
    """A layer's weights (outputs, inputs, ...) for the inputs that are left, with the part of those that are gone."""
    gone, ridged = np.setdiff1d(np.arange(len(seen.square)), inputs), seen.ridged()
    part = torch.linalg.solve(ridged[inputs][:, inputs], ridged[inputs][:, gone])  # (left, gone)
    more = torch.einsum("og...,lg->ol...", weight[:, gone].double(), part)
    return (weight[:, inputs].double() + more).float()
