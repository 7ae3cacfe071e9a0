"""Receptive fields: which pixels a place of a map can depend on, found by what a NaN reaches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from goulot.taps import Tap, Tapped, as_map


@dataclass(frozen=True)
class Span:
    """The columns of pixels that the middle column of a map depends on, `first` to `last` of `size`."""

    first: int
    last: int
    size: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.last - self.first + 1

    @property
    def cut(self) -> bool:
        """Whether the image ends before the field does."""
        return self.first == 0 or self.last == self.size - 1


def fields(network: Tapped, taps: Sequence[Tap], size: int) -> dict[str, Span]:
    """The receptive field of each tap that is a map, by bisection, all taps at once.

    A column of NaN reaches all that depends on it and nothing else, whatever the weights are, where a gradient may
    vanish. So the middle of a map is NaN if, and only if, one of the columns 0 ... j was: the least such j is where its
    field begins; likewise from the right. It takes log2(size) forward passes of at most two images a tap.
    """
    kinds = {tap.name: tap for tap in taps if tap.kind in ("map", "map-last")}
    # How many columns from a side must be spoilt to reach the middle: more than `low`, at most `high`.
    low = {(name, side): 0 for name in kinds for side in (False, True)}
    high = dict.fromkeys(low, size)
    while open_ := [search for search in low if high[search] - low[search] > 1]:
        middle = {search: (low[search] + high[search]) // 2 for search in open_}
        tried = sorted({(middle[name, right], right) for name, right in open_})
        reached = _reached(network, kinds, size, tried)
        for name, right in open_:
            spoilt = middle[name, right]
            (high if reached[name][tried.index((spoilt, right))] else low)[name, right] = spoilt
    return {name: Span(high[name, False] - 1, size - high[name, True], size) for name in kinds}


def _reached(network: Tapped, taps: dict[str, Tap], size: int, tried: list[tuple[int, bool]]) -> dict[str, list[bool]]:
    """Of each tap, whether the middle column of its map is NaN when so many columns from a side are."""
    pixels = torch.zeros(1, 3, size, size)
    found: dict[str, list[bool]] = {name: [] for name in taps}
    for spoilt, right in tried:
        image = pixels.clone()
        image[..., slice(size - spoilt, None) if right else slice(spoilt)] = torch.nan
        with torch.inference_mode():
            outputs = network(image)
        for name, tap in taps.items():
            found[name].append(_middle_is_nan(as_map(outputs[name], tap.kind, tap.prefix)))
    return found


def _middle_is_nan(maps: Tensor) -> bool:
    return bool(maps[..., maps.shape[-1] // 2].isnan().any())
