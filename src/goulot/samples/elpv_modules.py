"""ELPV with whole solar modules held out: is this cell defective, in a module of which no cell was seen?

The cells of `sample:elpv` are cut from 44 modules, whose cells look alike; of one module 0 to 93 % are defective. A
split at random asks of modules that are known; this one asks of new ones, as whoever inspects them would.
"""

from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pandas as pd

from goulot.samples import elpv

FOLD = 4  # or five modules of a type, defective about as often, of which one is held out
# Cells of each module in file order. The package does not say it: the type changes between modules, 60 cells are usual,
# and the cuts that leave 54, 50, 72 and 48 are inferred from statistics of the images.
SIZES = [*repeat(60, 21), 54, *repeat(60, 12), 50, 60, 72, 60, 60, 60, 48, 60, 60, 60]


def write(folder: Path, *, seed: int, limit: int | None) -> None:
    """Write the files as `sample:elpv` has them, and in train.csv the column `group`, a cell's module."""
    elpv.lay_out(folder, partition(seed=seed, limit=limit), known=["type", "group"])


def answers(*, seed: int, limit: int | None) -> pd.DataFrame:
    """The test set's true labels, columns `id` and `label` (int, 1 = defective), for scoring alone."""
    return elpv.hidden(partition(seed=seed, limit=limit))


def partition(*, seed: int, limit: int | None) -> pd.DataFrame:
    """All cells in file order with id, path, type, probability, group and split; no module is in both parts.

    `limit` keeps that many cells, of each module its share.
    """
    cells = elpv.read()
    names = [f"module{number:02d}" for number in range(1, len(SIZES) + 1)]
    cells["group"] = list(chain.from_iterable(map(repeat, names, SIZES)))
    rng = np.random.default_rng(seed)
    rates = cells.groupby(["type", "group"])["probability"].mean().sort_values()
    ranked = [part.index.get_level_values("group").to_numpy() for _, part in rates.groupby("type")]
    test = [rng.choice(alike) for part in ranked for alike in np.array_split(part, len(part) // FOLD)]
    cells["split"] = np.where(cells["group"].isin(test), "test", "train")
    if limit is None:
        return cells
    kept = [
        rng.permutation(rows)[: round(len(rows) * limit / len(cells))]
        for rows in cells.groupby("group").groups.values()
    ]
    return cells.loc[np.sort(np.concatenate(kept))].reset_index(drop=True)
