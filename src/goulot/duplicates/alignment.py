"""How alike two images are once one is laid on the other: over the eight poses, crops of up to a quarter.

Every pose and a grid of crops is tried on images of 16 pixels; the best poses are refined at 64 pixels, and what is
then very alike at 128.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from goulot.duplicates import warping
from goulot.duplicates.thumbnails import POSES, halved, posed

COARSE = 16
SIDE = 64
CROP = 0.9
STARTS = (0.0, (1 - CROP) / 2, 1 - CROP)
WINDOWS = 1 + len(STARTS) ** 2
BATCH = 128
TRIED = 2  # poses refined
PROMISING = 0.4  # coarse likeness above which a pair is refined
CLOSE = 0.9  # likeness above which it is looked at once more, at 128 pixels


class Alignment(NamedTuple):
    """Of each pair: the likeness in [0, 1], float32 (pairs,), and the pose in which the second shows the first."""

    likeness: np.ndarray
    pose: np.ndarray


def align(thumbnails: np.ndarray, pairs: np.ndarray, threads: int) -> Alignment:
    """Lay the second of each pair, int (pairs, 2), on the first; thumbnails are uint8 (n, 128, 128)."""

    def part(start: int) -> Alignment:
        chosen = pairs[start : start + BATCH]
        return _align(thumbnails[chosen[:, 0]], thumbnails[chosen[:, 1]])

    with ThreadPoolExecutor(threads) as pool, threadpool_limits(1):
        found = list(pool.map(part, range(0, len(pairs), BATCH)))
    empty = Alignment(np.empty(0, np.float32), np.empty(0, np.int8))
    return Alignment(*(np.concatenate(column) for column in zip(empty, *found, strict=True)))


def _align(first: np.ndarray, second: np.ndarray) -> Alignment:
    a, b = halved(first), halved(second)
    scores, windows = _coarse(a, b)
    order = np.argsort(-scores, axis=1, kind="stable")
    rows = np.arange(len(a))
    best, pose = np.maximum(scores[rows, order[:, 0]], 0).astype(np.float32), order[:, 0].astype(np.int8)
    best = np.minimum(best, PROMISING)  # of a pair that is not refined no more is known
    lines = np.zeros((len(a), 2, 2), np.float32)
    inside = np.ones(len(a), dtype=bool)
    for rank in range(TRIED):
        chosen = np.flatnonzero(scores[rows, order[:, rank]] >= PROMISING)
        if not len(chosen):
            continue
        tried = order[chosen, rank]
        window = windows[chosen, tried]
        whole, part = _laid(a[chosen], b[chosen], tried, window < WINDOWS)
        y, x = _start(window % WINDOWS)
        warping.refine(whole, part, y, x, 2.0, 4)
        warping.refine(whole, part, y, x, 1.0, 3)
        found = warping.likeness(whole, part, y, x)
        better = found > best[chosen]
        kept = chosen[better]
        best[kept], pose[kept], inside[kept] = found[better], tried[better], window[better] < WINDOWS
        lines[kept] = np.stack([y, x], axis=1)[better]
    close = np.flatnonzero(best >= CLOSE)
    if len(close):
        large = [image[close].astype(np.float32) for image in (first, second)]
        whole, part = _laid(large[0], large[1], pose[close], inside[close])
        y, x = lines[close, 0].copy(), lines[close, 1].copy()
        warping.refine(whole, part, y, x, 1.0, 3)
        best[close] = warping.likeness(whole, part, y, x)
    return Alignment(best, pose)


def _laid(a: np.ndarray, b: np.ndarray, pose: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The larger image and the one that lies within it: the second, posed, where `inside`."""
    turned = np.empty_like(b)
    for number in range(len(POSES)):
        turned[pose == number] = posed(b[pose == number], number)
    within = inside[:, None, None]
    return np.where(within, a, turned), np.where(within, turned, a)


def _start(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lines of windows 0 (no crop) to 9, float32 (n, 2) each."""
    crop, place = window > 0, np.maximum(window - 1, 0)
    scale, starts = np.where(crop, CROP, 1.0), np.where(crop, np.array(STARTS)[np.stack([place // 3, place % 3])], 0)
    return np.stack([scale, starts[0]], 1).astype(np.float32), np.stack([scale, starts[1]], 1).astype(np.float32)


def _coarse(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best correlation in each pose and its window, both (pairs, poses).

    Windows 0 to 9: the second is that of the first (0 is all of it). 10 to 19: the first is that of the posed second.
    """
    crops_a, crops_b = _windows(a), _windows(b)  # (pairs, WINDOWS, COARSE, COARSE)
    flat = crops_a.reshape(*crops_a.shape[:2], -1)
    scores = np.empty((len(a), len(POSES), 2 * WINDOWS), np.float32)
    for pose in range(len(POSES)):
        scores[:, pose, :WINDOWS] = (flat @ posed(crops_b[:, 0], pose).reshape(len(a), -1, 1))[..., 0]
        scores[:, pose, WINDOWS:] = (posed(crops_b, pose).reshape(flat.shape) @ flat[:, 0, :, None])[..., 0]
    window = scores.argmax(axis=2)
    best = np.take_along_axis(scores, window[..., None], 2)[..., 0]
    return best, np.stack([_moved(pose)[window[:, pose]] for pose in range(len(POSES))], axis=1)


@cache
def _moved(pose: int) -> np.ndarray:
    """Where each window is once the image is posed: a crop of the image lies elsewhere in the turned one."""
    where = np.empty(WINDOWS - 1, dtype=int)
    where[posed(np.arange(WINDOWS - 1).reshape(3, 3), pose).ravel()] = np.arange(WINDOWS - 1)
    return np.concatenate([np.arange(WINDOWS + 1), WINDOWS + 1 + where])


def _windows(images: np.ndarray) -> np.ndarray:
    """The image's middle frequencies and those of its nine crops, of zero mean and unit length."""
    cutters = _cutters(SIDE, (0.0, *STARTS))
    cut = cutters @ (warping.blurred(images, 1.5) - warping.blurred(images, 8.0)) @ cutters.T
    cut = cut.reshape(len(images), 4, COARSE, 4, COARSE).transpose(0, 1, 3, 2, 4)
    made = np.concatenate([cut[:, :1, 0], cut[:, 1:, 1:].reshape(len(images), WINDOWS - 1, COARSE, COARSE)], axis=1)
    made = made - made.mean(axis=(2, 3), keepdims=True)
    return np.asarray(made / np.maximum(np.sqrt((made**2).sum(axis=(2, 3), keepdims=True)), warping.NOISE * COARSE))


@cache
def _cutters(side: int, starts: Sequence[float]) -> np.ndarray:
    """Matrices that shrink a line to COARSE places, all of it, then shares CROP; (4 * COARSE, side)."""
    rows = []
    for number, start in enumerate(starts):
        edges = (start + (CROP if number else 1.0) * np.arange(COARSE + 1) / COARSE) * side
        pixel = np.arange(side)
        overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
        rows.append(np.clip(overlap, 0, None) / (edges[1] - edges[0]))
    return np.concatenate(rows).astype(np.float32)
