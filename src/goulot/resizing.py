"""Resizing many images of one size on a GPU as two matrix products, columns first, then rows.

Like Pillow the image between them is rounded to 8 bits, and weights are multiples of `STEP`: every sum is then exact in
float32, so that a pixel does not depend on how many images are resized together, nor on the device.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

STEP = 2.0**-14  # 255 times a row's weights, negative ones among them, is below 2**9: 23 bits, and float32 has 24
SIZES, LENGTHS = 4096, 256  # of images, and of their sides with weights, that are remembered
LIT = 256  # pixels whose weights are found together


class Side(NamedTuple):
    """Of an image's rows or columns: how many there are once resized, and which of them the crop keeps."""

    resized: int
    first: int
    last: int


class Products:
    """A smoothed resize and the crops after it, of uint8 (n, 3, H, W) on any device."""

    def __init__(self, resize: v2.Resize, crops: Sequence[Any]) -> None:
        self._resize, self._crops = resize, crops
        self._sides = lru_cache(SIZES)(self._found)

    def __call__(self, images: Tensor) -> Tensor:
        """The network's input, uint8 (n, 3, h, w)."""
        height, width = images.shape[-2:]
        rows, columns = self._sides(height, width)
        down, across = (
            weights(length, side, self._resize.interpolation, images.device)
            for length, side in ((height, rows), (width, columns))
        )
        narrow = _rounded(images.float() @ across.T)
        return _rounded(down.expand(*narrow.shape[:2], *down.shape) @ narrow).to(torch.uint8)

    def _found(self, height: int, width: int) -> tuple[Side, Side]:
        """The transforms themselves tell, by what becomes of an image without values and of one of places."""
        h, w = self._resize(torch.empty(1, height, width, device="meta")).shape[-2:]
        places = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
        for crop in self._crops:
            places = crop(places)
        (top, left), (bottom, right) = places[:, 0, 0].tolist(), places[:, -1, -1].tolist()
        return Side(h, top, bottom), Side(w, left, right)


@lru_cache(LENGTHS)
def weights(length: int, side: Side, method: InterpolationMode, device: torch.device) -> Tensor:
    """What each of `length` pixels adds to each kept one, float32 (kept, length); a row's sum is 1.

    Torch's own resize of columns of which one pixel is lit tells, on the CPU, so that all devices have the same. What
    rounding left over goes to the largest weight.
    """
    parts = []
    for first in range(0, length, LIT):
        count = min(LIT, length - first)
        lit = torch.zeros(1, length, count)
        lit[0, torch.arange(first, first + count), torch.arange(count)] = 1
        parts.append(v2.functional.resize(lit, [side.resized, count], interpolation=method, antialias=True)[0])
    exact = torch.cat(parts, dim=1)[side.first : side.last + 1]
    found = (exact / STEP).round() * STEP
    found.scatter_add_(1, found.argmax(1, keepdim=True), 1 - found.sum(1, keepdim=True))
    return found.to(device)


def _rounded(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255)
