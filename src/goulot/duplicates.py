"""Duplicates and near-duplicates: equal bytes, and perceptual hashes that differ in few bits."""

from collections.abc import Iterator

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BLOCK = 2048


def perceptual_hash(image: Image.Image, side: int) -> np.ndarray:
    """The image's perceptual hash (imagehash's pHash: low frequencies of a cosine transform), side² bits as uint64."""
    bits = imagehash.phash(image, hash_size=side).hash.reshape(-1)
    return np.packbits(bits).view(np.uint64)


def near_pairs(hashes: np.ndarray, distance: int) -> Iterator[tuple[int, int, int]]:
    """Yield (i, j, Hamming distance), i < j, for hashes uint64 (n, words) at most `distance` bits apart.

    Every pair is looked at, block by block: exact, and 10,000 images take a second.
    """
    for start in range(0, len(hashes), BLOCK):
        rows = hashes[start : start + BLOCK]
        for other in range(start, len(hashes), BLOCK):
            columns = hashes[other : other + BLOCK]
            bits = np.zeros((len(rows), len(columns)), dtype=np.uint16)
            for word in range(hashes.shape[1]):
                bits += np.bitwise_count(rows[:, word, None] ^ columns[None, :, word])
            near_i, near_j = np.nonzero(bits <= distance)
            for i, j in zip(near_i.tolist(), near_j.tolist(), strict=True):
                if start + i < other + j:
                    yield start + i, other + j, int(bits[i, j])


def groups(count: int, pairs: pd.DataFrame) -> np.ndarray:
    """Connected components of the pairs (columns `i`, `j`), numbered by their first member, int (count,)."""
    links = coo_array((np.ones(len(pairs)), (pairs["i"], pairs["j"])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    first = pd.Series(labels).drop_duplicates().to_numpy()
    rank = np.empty(len(first), dtype=int)
    rank[first] = np.arange(len(first))
    return np.asarray(rank[labels])


def merged(group: np.ndarray, names: "pd.Series[str]") -> np.ndarray:
    """Join the groups of rows that bear one name, e.g. a patient's; a row without a name stays where it is."""
    known = names.notna().to_numpy() & (names.fillna("").str.strip() != "").to_numpy()
    codes = pd.factorize(names[known])[0] + group.max() + 1
    links = pd.DataFrame({"i": group[known], "j": codes})
    joined = groups(int(max(group.max(), codes.max(initial=0))) + 1, links)
    return np.asarray(joined[group])
