"""Pixels: views of images as a network's input, decoded when they are wanted, to train it from the images."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms import v2

from goulot.augmentation import View, after_resize, before_resize, views_of
from goulot.backbones import Preprocessing
from goulot.images import Shards

Policy = Literal["none", "trivial", "rand"]

# Muller and Hutter, "TrivialAugment", ICCV 2021; Cubuk et al., "RandAugment", NeurIPS 2020.
POLICIES: dict[Policy, Callable[[], Any] | None] = {
    "none": None,
    "trivial": v2.TrivialAugmentWide,
    "rand": v2.RandAugment,
}


class Pixels:
    """Views in an order of their own, as the extraction makes them; only those asked for are in memory.

    `plan` has, of each view, image_id, View's fields, and the image's shard and row.
    """

    def __init__(self, shards: Shards, plan: pd.DataFrame, preprocessing: Preprocessing, threads: int) -> None:
        images = plan[["shard", "row", "image_id"]].itertuples(index=False, name=None)
        self._open(shards, preprocessing, threads, list(images), views_of(plan))

    def _open(self, shards: Shards, preprocessing: Preprocessing, threads: int,
              images: list[tuple[Any, ...]], views: list[View]) -> None:  # fmt: skip
        self._shards, self._preprocessing, self._threads = shards, preprocessing, threads
        self._images, self._views, self._resize = images, views, preprocessing.resize()
        self.shape = (3, preprocessing.input_size, preprocessing.input_size)

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, rows: np.ndarray) -> "Pixels":
        """Those rows alone, by number or as a mask; nothing is decoded yet."""
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
        part = Pixels.__new__(Pixels)
        part._open(self._shards, self._preprocessing, self._threads,
                   [self._images[i] for i in numbers], [self._views[i] for i in numbers])  # fmt: skip
        return part

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Those views, float32 (len(rows), 3, size, size), normalised as the weights want it."""
        return self.normalised(self.decode(rows)).numpy()

    def decode(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """Those views, uint8 (len(rows), 3, size, size); each is decoded by a thread of its own."""
        with ThreadPoolExecutor(self._threads) as workers:
            return torch.from_numpy(np.stack(list(workers.map(self._decode, rows)))).permute(0, 3, 1, 2)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels of 0 to 255, (n, 3, size, size), as the network's input, float32, on their device."""
        mean, std = (
            torch.tensor(values, device=pixels.device).view(3, 1, 1) * 255
            for values in (self._preprocessing.mean, self._preprocessing.std)
        )
        return (pixels.float() - mean) / std

    def _decode(self, number: int) -> np.ndarray:
        image = self._shards.decode(*self._images[number])
        view = self._views[number]
        resized = self._resize(before_resize(image, view)).permute(1, 2, 0).numpy()
        return np.ascontiguousarray(after_resize(resized, view))


def augmented(pixels: Tensor, policy: Policy) -> Tensor:
    """Each image changed at random, uint8 (n, 3, H, W); what is drawn comes from torch's generator."""
    made = POLICIES[policy]
    if made is None:
        return pixels
    change = made()
    return torch.stack([change(image) for image in pixels])


def soft(targets: Tensor, names: int) -> Tensor:
    """Targets, as `training.loss` takes them, as float (n, names)."""
    return one_hot(targets, names).float() if targets.dim() == 1 else targets


def mixed(images: Tensor, targets: Tensor, *, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Each image with its neighbour, and their targets, float (n, names), likewise; one of the two ways at random.

    Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019. `mixup` and `cutmix` are the alphas of the Beta
    distribution that the share is drawn from; 0 leaves that way out.
    """
    ways = [way(alpha=alpha) for way, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha]
    if not ways or len(images) < 2:
        return images, targets
    pair: tuple[Tensor, Tensor] = v2.RandomChoice(ways)(images, targets)
    return pair
