"""Resizing many images of one size on a GPU as two matrix products, columns first, then rows.

A GPU's own kernels for a smoothed resize keep its forward pass waiting; products are what it is made for. Like Pillow
the image between them is rounded to 8 bits, and weights are multiples of `STEP`: every factor is then exact in the 11
bits of tensor cores and every sum in their float32, so that a pixel does not depend on how many are resized together.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

STEP = 2.0**-10  # a weight may be a little more than 1, never 2
SIZES, LENGTHS = 4096, 512  # of images, and of their sides with weights, that are remembered


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
        with _tensor_cores():
            narrow = _rounded(images.float() @ across.T)
            small = down.expand(*narrow.shape[:2], *down.shape) @ narrow
        return _rounded(small).to(torch.uint8)

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

    Torch's own resize of rows of which one pixel is lit tells, on the CPU, so that all devices have the same. What
    rounding left over goes to the largest weight.
    """
    lit = torch.eye(length)[None]
    exact = v2.functional.resize(lit, [side.resized, length], interpolation=method, antialias=True)[0]
    found: Tensor = (exact[side.first : side.last + 1] / STEP).round() * STEP
    found.scatter_add_(1, found.argmax(1, keepdim=True), 1 - found.sum(1, keepdim=True))
    return found.to(device)


@contextmanager
def _tensor_cores() -> Iterator[None]:
    """Products of float32 in the 11 bits that are exact here; in other threads too, where networks have 16 bits."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _rounded(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255)
