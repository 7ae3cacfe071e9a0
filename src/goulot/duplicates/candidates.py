"""Pairs that may be duplicates: equal digests, near perceptual hashes in any pose, near features."""

from itertools import product

import faiss
import numpy as np
import pandas as pd
from scipy.fft import dctn

from goulot.duplicates.thumbnails import POSES, halved

HASH_SIDE = 16
BITS = HASH_SIDE**2
BLOCK = 2048
CROPPED = 57  # of 64 pixels, nine tenths
STARTS = (0, 3, 7)


def equal(values: np.ndarray) -> np.ndarray:
    """Pairs of rows that hold the same, each with the first that does, int (pairs, 2)."""
    codes, _ = pd.factorize(values)
    first = np.unique(codes, return_index=True)[1][codes]
    later = np.flatnonzero(first != np.arange(len(codes)))
    return np.stack([first[later], later], axis=1)


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """The perceptual hash of each image in the eight poses, then of nine crops, uint8 (n, 17, BITS / 8).

    It is pHash as imagehash has it (low frequencies of a cosine transform against their median) of the image at 64
    pixels. A mirror image changes the sign of every other frequency, a transposed one swaps them: no pose is
    transformed itself.
    """
    made = np.empty((len(thumbnails), len(POSES) + len(STARTS) ** 2, BITS // 8), dtype=np.uint8)
    sign = (-1.0) ** np.arange(HASH_SIDE)
    for start in range(0, len(thumbnails), BLOCK):
        small = halved(thumbnails[start : start + BLOCK]).round()
        low = dctn(small, axes=(1, 2))[:, :HASH_SIDE, :HASH_SIDE]
        for pose in range(len(POSES)):
            turned = low * np.where(pose & 4, sign, 1) * np.where(pose & 2, sign, 1)[:, None]
            made[start : start + BLOCK, pose] = _bits(turned.swapaxes(1, 2) if pose & 1 else turned)
        for number, (y, x) in enumerate(product(STARTS, STARTS), start=len(POSES)):
            low_crop = dctn(small[:, y : y + CROPPED, x : x + CROPPED], axes=(1, 2))[:, :HASH_SIDE, :HASH_SIDE]
            made[start : start + BLOCK, number] = _bits(low_crop)
    return made


def _bits(low: np.ndarray) -> np.ndarray:
    flat = low.reshape(len(low), -1)
    return np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)


def near_hashes(hashes: np.ndarray, distance: int, count: int, threads: int) -> np.ndarray:
    """Each image's `count` nearest others in any pose or crop, at most `distance` bits apart: (pairs, 3), i < j."""
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexBinaryFlat(BITS)
    index.add(np.ascontiguousarray(hashes[:, 0]))
    parts = []
    for pose in range(hashes.shape[1]):
        bits, near = index.search(np.ascontiguousarray(hashes[:, pose]), min(count + 1, len(hashes)))
        row, place = np.nonzero((bits <= distance) & (near != np.arange(len(hashes))[:, None]))
        parts.append(pd.DataFrame({"i": row, "j": near[row, place], "distance": bits[row, place]}))
    found = pd.concat(parts).sort_values(["i", "distance", "j"]).drop_duplicates(["i", "j"]).groupby("i").head(count)
    low, high = np.minimum(found["i"], found["j"]), np.maximum(found["i"], found["j"])
    pairs = found.assign(i=low, j=high).sort_values(["i", "j", "distance"]).drop_duplicates(["i", "j"])
    return pairs[["i", "j", "distance"]].to_numpy(dtype=np.int64)


def near_features(features: np.ndarray, count: int, threads: int) -> np.ndarray:
    """Each row's `count` nearest others by the cosine of standardised features: (pairs, 2), i < j."""
    faiss.omp_set_num_threads(threads)
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    scaled = np.ascontiguousarray(scaled, dtype=np.float32)
    index = faiss.IndexFlatIP(scaled.shape[1])
    index.add(scaled)
    _, near = index.search(scaled, min(count + 1, len(scaled)))
    row, place = np.nonzero((near >= 0) & (near != np.arange(len(near))[:, None]))
    return np.unique(np.sort(np.stack([row, near[row, place]], axis=1), axis=1), axis=0)
