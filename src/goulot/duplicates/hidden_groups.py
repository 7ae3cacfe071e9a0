"""Groups that nobody named: whether features tell an image's place in file order, its folder or a column of the table.

Asked of a training image is whether the nearest one by features, no duplicate and of another group, bears the same
name. By chance is what is left of that when names are dealt anew among images of one label, alike in any case.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from goulot.targets import Target

RUN = 60  # images in file order, fewer where there are few
LEAST_GROUPS = 5
LEAST_SIZE = 2.5  # images of a name, on average
LEAST_ASKED = 30
DEALS = 100
EXCESS = 0.1  # of what chance leaves
STRATA = 10  # of numbers, instead of labels


class Told(NamedTuple):
    """How far features tell a grouping: shares of nearest images that bear the same name."""

    names: int
    share: float
    by_chance: float


def groupings(train: pd.DataFrame, columns: pd.DataFrame) -> dict[str, np.ndarray]:
    """What may be groups, by what a person calls it: the number of each row's name, -1 where it has none.

    `train` has the column file, `columns` what else the table says of the same rows, as text.
    """
    length = max(min(RUN, len(train) // 20), 1)
    order = sorted(range(len(train)), key=[_natural(file) for file in train["file"]].__getitem__)
    place = np.argsort(order)
    found = {f"column {name!r}": _numbers(columns[name]) for name in columns}
    found["folder"] = _numbers(train["file"].str.rpartition("/")[0])
    return {**found, f"run of {length} in file order": place // length}


def told(
    near: np.ndarray, group: np.ndarray, strata: np.ndarray, named: Mapping[str, np.ndarray], seed: int
) -> dict[str, Told]:
    """Those groupings that features tell far above chance.

    near: the rows nearest to each, the nearest first, -1 for none, int (rows, count). group: what folds keep together
    already. strata: within which names are dealt anew.
    """
    good = (near >= 0) & (group[near] != group[:, None])
    asked = np.flatnonzero(good.any(axis=1))
    partner = near[asked, good[asked].argmax(axis=1)]
    found = {}
    for what, numbers in named.items():
        sizes = np.bincount(numbers[numbers >= 0])
        both = (numbers[asked] >= 0) & (numbers[partner] >= 0)
        if len(sizes) < LEAST_GROUPS or sizes.mean() < LEAST_SIZE or both.sum() < LEAST_ASKED:
            continue
        i, j = asked[both], partner[both]
        rng = np.random.default_rng(seed)
        share = float((numbers[i] == numbers[j]).mean())
        deals = (_dealt(numbers, strata, rng) for _ in range(DEALS))
        chances = [float((dealt[i] == dealt[j]).mean()) for dealt in deals]
        by_chance = float(np.mean(chances))
        if share > max(chances) and share - by_chance > EXCESS * (1 - by_chance):
            found[what] = Told(len(sizes), round(share, 4), round(by_chance, 4))
    return found


def strata(truth: np.ndarray, target: Target) -> np.ndarray:
    """Rows of one label or set of labels, or of numbers that are near each other, int (rows,)."""
    if target.task == "regression":
        rank = truth[:, 0].argsort(kind="stable").argsort(kind="stable")
        return np.asarray(rank * STRATA // max(len(rank), 1))
    return np.asarray(np.unique(truth.reshape(len(truth), -1), axis=0, return_inverse=True)[1].ravel())


def _dealt(numbers: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    made = np.empty_like(numbers)
    made[strata.argsort(kind="stable")] = numbers[np.lexsort((rng.random(len(numbers)), strata))]
    return made


def _numbers(names: "pd.Series[str]") -> np.ndarray:
    return np.asarray(pd.factorize(names.where(names.str.strip() != ""))[0])


def _natural(text: str) -> list[str | int]:
    """A key by which x9 comes before x10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
