"""How alike two images are once one is laid on the other: over the eight poses, crops of up to a quarter.

Every pose and a grid of crops is tried on images of 16 pixels; the best poses are laid on each other at 32 pixels, and
what is more and more alike at 64 and at 128. Of a pair that stops early the likeness is that of its last size.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from goulot.duplicates import warping
from goulot.duplicates.thumbnails import POSES, halved, posed
from goulot.progress import track

COARSE = 16
CROP = 0.9
STARTS = (0.0, (1 - CROP) / 2, 1 - CROP)
WINDOWS = 1 + len(STARTS) ** 2
BATCH = 128
TRIED = 2  # poses laid on each other at most
PROMISING = 0.5  # coarse likeness from which that is done
RIVAL = 0.1  # of the best coarse likeness, within which another pose is tried too
STEPS = 2  # after the first size, where the start is rougher
FIRST_STEPS = 6


class Size(NamedTuple):
    """Of images that were halved so often: how alike a pair must be to be looked at, and at every which pixel."""

    halvings: int
    least: float
    every: int


LARGER = (Size(1, 0.85, 1), Size(0, 0.9, 2))


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
        starts = range(0, len(pairs), BATCH)
        found = list(track(pool.map(part, starts), total=len(starts), unit="batches of pairs", label="audit"))
    empty = Alignment(np.empty(0, np.float32), np.empty(0, np.int8))
    return Alignment(*(np.concatenate(column) for column in zip(empty, *found, strict=True)))


def _align(*images: np.ndarray) -> Alignment:
    sizes = [images]
    for _ in range(2):
        sizes.append(tuple(halved(image) for image in sizes[-1]))
    best, pose, inside, lines = _first(sizes[-1])
    for size in LARGER:
        chosen = np.flatnonzero(best >= size.least)
        start = lines[chosen]
        best[chosen] = _refined(
            sizes[size.halvings], chosen, pose[chosen], inside[chosen], start, steps=STEPS, every=size.every
        )
        lines[chosen] = start
    return Alignment(best, pose)


def _first(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The best likeness, its pose, whether the second lies within the first there, and the lines (pairs, 2, 2)."""
    scores, windows = _coarse(*images)
    order, rows = np.argsort(-scores, axis=1, kind="stable"), np.arange(len(scores))
    # Of a pair that goes no further no more is known.
    best, pose = scores[rows, order[:, 0]].clip(0, PROMISING), order[:, 0].astype(np.int8)
    inside, lines = np.ones(len(rows), dtype=bool), np.zeros((len(rows), 2, 2), np.float32)
    for rank in range(TRIED):
        score = scores[rows, order[:, rank]]
        chosen = np.flatnonzero((score >= PROMISING) & (score >= scores[rows, order[:, 0]] - RIVAL))
        tried = order[chosen, rank]
        window = windows[chosen, tried]
        start = np.stack(_start(window % WINDOWS), axis=1)
        found = _refined(images, chosen, tried, window < WINDOWS, start, steps=FIRST_STEPS)
        better = found > best[chosen]
        kept = chosen[better]
        best[kept], pose[kept], inside[kept] = found[better], tried[better], window[better] < WINDOWS
        lines[kept] = start[better]
    return best, pose, inside, lines


def _refined(
    images: Sequence[np.ndarray], chosen: np.ndarray, pose: np.ndarray, inside: np.ndarray, lines: np.ndarray,
    *, steps: int, every: int = 1,
) -> np.ndarray:  # fmt: skip
    """The likeness of the chosen pairs after steps that improve their lines in place."""
    if not len(chosen):
        return np.empty(0, np.float32)
    a, b = (image[chosen].astype(np.float32) for image in images)
    whole, part = _laid(a, b, pose, inside)
    warping.refine(whole, part, lines[:, 0], lines[:, 1], steps=steps, every=every)
    return warping.likeness(whole, part, lines[:, 0], lines[:, 1])


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
    cutters = _cutters(images.shape[-1], (0.0, *STARTS))
    cut = cutters @ (warping.blurred(images, 0.75) - warping.blurred(images, 4.0)) @ cutters.T
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
