"""The fold ledger: which fold each training image belongs to."""

import warnings

import numpy as np
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold

from goulot.errors import LedgerError
from goulot.targets import Task

BINS = 10  # of a number, as strata


def deal(y: np.ndarray, groups: np.ndarray, *, task: Task, folds: int, seed: int) -> np.ndarray:
    """A fold for each row, int (n,): groups stay whole; classes, labels or numbers are spread evenly.

    y is the truth as `Target.truth` gives it. What occurs in fewer groups than there are folds cannot be in each of
    them. Raises LedgerError where there are fewer groups than folds.
    """
    have = len(np.unique(groups))
    if have < folds:
        raise LedgerError(
            f"{len(groups)} training images in {have} group(s) cannot be dealt into split.folds = {folds} folds; "
            "lower split.folds"
        )
    if task == "multilabel":
        return _by_labels(y, groups, folds=folds, seed=seed)
    strata = _bins(y, folds) if task == "regression" else y
    if np.bincount(np.unique(strata, return_inverse=True)[1]).max() < folds:
        strata = np.zeros(len(groups), dtype=int)  # no class is in every fold: even sizes are all there is to win
    dealer = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.full(len(groups), -1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, rows) in enumerate(dealer.split(np.zeros(len(groups)), strata, groups)):
            fold[rows] = number
    return fold


def inner(
    y: np.ndarray, groups: np.ndarray, *, task: Task, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits inside the rows of a fold's training part, groups whole: (fit rows, held-out rows) each."""
    fold = deal(y, groups, task=task, folds=folds, seed=seed)
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]


def scarce(y: np.ndarray, groups: np.ndarray, *, task: Task, folds: int) -> np.ndarray:
    """The numbers of the classes, or labels, that occur in fewer groups than there are folds."""
    if task == "regression":
        return np.zeros(0, dtype=int)
    if task == "multilabel":
        counts = np.array([len(np.unique(groups[column == 1])) for column in y.T])
    else:
        pairs = np.unique(np.stack([y, groups]), axis=1)
        counts = np.bincount(pairs[0])
    return np.flatnonzero((counts > 0) & (counts < folds))


def _bins(y: np.ndarray, folds: int) -> np.ndarray:
    """Equally full bins of the rows' mean rank over the columns."""
    rank = rankdata(rankdata(y, axis=0).mean(axis=1), method="ordinal") - 1
    bins = max(1, min(BINS, len(y) // (2 * folds)))
    return np.asarray((rank * bins // len(y)).astype(int))


def _by_labels(y: np.ndarray, groups: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML 2011) of whole groups.

    The rarest label that is left is dealt first, each group to the fold that lacks most of it; among equals to the one
    that lacks most rows.
    """
    rng = np.random.default_rng(seed)
    names, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    labels = np.stack([np.bincount(group, weights=column, minlength=len(names)) for column in y.T], axis=1)
    lacks = np.tile(labels.sum(axis=0) / folds, (folds, 1))  # (folds, labels)
    room = np.full(folds, len(y) / folds)
    dealt = np.full(len(names), -1)
    while (left := dealt < 0).any():
        remaining = labels[left].sum(axis=0)
        label = int(np.where(remaining > 0, remaining, np.inf).argmin()) if remaining.any() else None
        chosen = np.flatnonzero(left & (labels[:, label] > 0) if label is not None else left)
        shuffled = rng.permutation(chosen)
        for number in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            wish = lacks[:, label] if label is not None else room
            fold = np.lexsort((rng.random(folds), room, wish))[-1]
            dealt[number] = fold
            lacks[fold] -= labels[number]
            room[fold] -= sizes[number]
    return dealt[group]
