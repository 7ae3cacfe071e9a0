"""Pairs that may be duplicates: equal digests, near hashes, near spectra in any pose or crop, near features."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import faiss
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from goulot.duplicates.thumbnails import halved

HASH_SIDE = 16
BITS = HASH_SIDE**2
BLOCK = 2048  # images
READ = 16_384  # vectors of features in memory
FREQUENCIES = 10
CROPPED = 57  # of 64 pixels, nine tenths
STARTS = (1, 3, 6)
COMPONENTS = 128
FEW = 2048  # images up to which features are compared as they are
MANY = 10_000  # images from which an index looks into a part of its lists
PROBED = 24


def equal(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pairs of rows that hold the same, each with the first that does, of the known ones if any: (pairs, 2), i < j.

    So that every unknown row is beside a known one, and every known one beside another, however many there are.
    """
    order = np.argsort(~known, kind="stable")
    codes, _ = pd.factorize(values[order])
    first = np.empty(len(values), dtype=np.int64)
    first[order] = order[np.unique(codes, return_index=True)[1][codes]]
    other = np.flatnonzero(first != np.arange(len(values)))
    return np.sort(np.stack([first[other], other], axis=1), axis=1)


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """The perceptual hash of each image, uint8 (n, BITS / 8).

    It is pHash as imagehash has it (low frequencies of a cosine transform against their median), of 64 pixels.
    """
    parts = [np.empty((0, BITS // 8), np.uint8)]
    for images in _blocks(thumbnails):
        low = _low(images.round(), HASH_SIDE).reshape(len(images), -1)
        parts.append(np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1))
    return np.concatenate(parts)


def near_hashes(hashes: np.ndarray, distance: int, count: int, threads: int) -> np.ndarray:
    """Each image's `count` nearest others, at most `distance` bits apart: (pairs, 2), i < j."""
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexBinaryFlat(BITS)
    index.use_heap = False  # type: ignore[attr-defined]  # counting is faster
    index.add(hashes)
    bits, near = index.search(hashes, min(count + 1, len(hashes)))
    return pairs(np.where(bits <= distance, near, -1))


def near_spectra(thumbnails: np.ndarray, count: int, threads: int) -> np.ndarray:
    """Each image's `count` nearest others by the spectrum of all of it or of one of nine crops: (pairs, 2), i < j."""
    whole = np.concatenate([_spectra(images) for images in _blocks(thumbnails)])
    centre, spread = whole.mean(axis=0), whole.std(axis=0) + 1e-6
    index = _index(_unit((whole - centre) / spread), threads)
    found = [np.empty((0, 2), np.int64)]
    for start, images in zip(range(0, len(whole), BLOCK), _blocks(thumbnails), strict=True):
        crops = [_spectra(images[:, y : y + CROPPED, x : x + CROPPED]) for y, x in product(STARTS, STARTS)]
        asked = np.stack([whole[start : start + BLOCK], *crops], axis=1)  # (images, 10, channels)
        alike, near = index.search(_unit((asked - centre) / spread).reshape(-1, asked.shape[-1]), count + 1)
        rows = np.arange(start, start + len(images)).repeat(asked.shape[1] * (count + 1))
        table = pd.DataFrame({"i": rows, "j": near.ravel(), "apart": -alike.ravel()})
        table = table[(table["j"] >= 0) & (table["i"] != table["j"])].sort_values(["i", "apart", "j"])
        nearest = table.drop_duplicates(["i", "j"]).groupby("i").head(count)
        found.append(nearest[["i", "j"]].to_numpy())
    return _unordered(np.concatenate(found))


def near_features(read: Callable[[slice], np.ndarray], rows: int, count: int, threads: int) -> np.ndarray:
    """Each row's nearest rows by the cosine of its features, itself among them, int (rows, count + 1).

    `read` gives some rows, float32 (n, channels). Of many rows whitened principal components are compared.
    """
    if rows <= FEW:
        features = read(slice(0, rows))
        scaled = _unit((features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6))
    else:
        pca = PCA(COMPONENTS, whiten=True, svd_solver="covariance_eigh").fit(read(slice(0, rows, -(-rows // READ))))
        scaled = np.concatenate([_unit(pca.transform(read(block))) for block in _slices(rows, READ)])
    _, near = _index(scaled, threads).search(scaled, min(count + 1, rows))
    return np.asarray(near)


def pairs(near: np.ndarray) -> np.ndarray:
    """The pairs of each row and its neighbours (rows, count), of which -1 is none: (pairs, 2), i < j."""
    row, place = np.nonzero((near >= 0) & (near != np.arange(len(near))[:, None]))
    return _unordered(np.stack([row, near[row, place]], axis=1))


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _blocks(thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    """The images at half their side, float32, some at a time."""
    return (halved(thumbnails[block]) for block in _slices(len(thumbnails), BLOCK))


@cache
def _cosines(side: int, count: int) -> np.ndarray:
    """The first rows of the cosine transform, float32 (count, side)."""
    angles = np.pi * np.arange(count)[:, None] * (2 * np.arange(side) + 1) / (2 * side)
    return np.asarray(np.cos(angles) / side, dtype=np.float32)


def _low(images: np.ndarray, count: int) -> np.ndarray:
    """The lowest frequencies of each image, float32 (n, count, count)."""
    rows = _cosines(images.shape[-1], count)
    return np.asarray(rows @ images @ rows.T)


def _spectra(images: np.ndarray) -> np.ndarray:
    """Roots of the magnitudes of low frequencies, the same in all eight poses, float32 (n, channels).

    A mirror image changes the sign of every other frequency, a transposed one swaps them: what is kept of two that are
    swapped is their sum and how far they are apart.
    """
    size = np.sqrt(np.abs(_low(images, FREQUENCIES)))
    y, x = np.triu_indices(FREQUENCIES, 1)
    middle = np.arange(1, FREQUENCIES)
    one, other = size[:, y, x], size[:, x, y]
    return np.concatenate([one + other, np.abs(one - other), size[:, middle, middle]], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)


def _index(vectors: np.ndarray, threads: int) -> "faiss.Index":
    """An index for the largest inner products; of many vectors it looks into the nearest of some clusters."""
    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    if len(vectors) < MANY:
        flat.add(vectors)
        return flat
    lists = round(2 * len(vectors) ** 0.5)
    index = faiss.IndexIVFFlat(flat, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = PROBED
    index.train(vectors[:: -(-len(vectors) // (64 * lists))])
    index.add(vectors)
    return index


def _unordered(pairs: np.ndarray) -> np.ndarray:
    return np.unique(np.sort(pairs, axis=1), axis=0)
