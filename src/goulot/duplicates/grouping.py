"""Groups of duplicates, and labels that contradict each other within a pair."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from goulot.targets import Target

TOLERANCE = 0.05  # of a number's standard deviation


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


def chained(group: np.ndarray, train: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    """Rows that share a group with training images, but only through others: each with the first of these, i < j."""
    beside = np.zeros(len(group), dtype=bool)
    beside[pairs["i"][train[pairs["j"]]]] = beside[pairs["j"][train[pairs["i"]]]] = True
    known = np.flatnonzero(train)
    first = np.full(group.max(initial=0) + 1, -1)
    first[group[known[::-1]]] = known[::-1]
    rows = np.flatnonzero(~beside & (first[group] >= 0) & (first[group] != np.arange(len(group))))
    i, j = np.sort(np.stack([first[group[rows]], rows]), axis=0)
    return pd.DataFrame({"i": i, "j": j, "kind": "chain", "likeness": np.nan, "distance": np.nan, "pose": ""})


def conflicts(manifest: pd.DataFrame, target: Target, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs (columns `i`, `j`) of training images whose truth differs.

    Classes differ, or any label of several, or a number by more than TOLERANCE of its standard deviation.
    """
    train = (manifest["split"] == "train").to_numpy()
    both = pairs[train[pairs["i"]] & train[pairs["j"]]]
    truth = target.truth(manifest).reshape(len(manifest), -1).astype(np.float64)
    slack = TOLERANCE * np.nanstd(truth[train], axis=0) if target.task == "regression" else 0.0
    differ = (np.abs(truth[both["i"]] - truth[both["j"]]) > slack).any(axis=1)
    return both[np.asarray(differ)]
