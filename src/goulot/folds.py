"""The fold ledger: which fold each training image belongs to."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from goulot.errors import LedgerError


def deal(labels: "pd.Series[str]", groups: "pd.Series[int]", *, folds: int, seed: int) -> np.ndarray:
    """A fold for each row, int (n,): groups stay whole, classes are spread evenly.

    Raises LedgerError where a class has fewer members, or fewer groups, than there are folds.
    """
    counts = labels.value_counts()
    spread = groups.groupby(labels).nunique()
    for label in counts.index[::-1]:
        if counts[label] < folds or spread[label] < folds:
            have = f"{counts[label]} image(s) in {spread[label]} group(s)"
            raise LedgerError(
                f"class {label!r} has {have}, fewer than split.folds = {folds}; "
                "lower split.folds or leave the class out"
            )
    dealer = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.full(len(labels), -1)
    for number, (_, rows) in enumerate(dealer.split(np.zeros(len(labels)), labels, groups)):
        fold[rows] = number
    return fold


def inner(labels: np.ndarray, groups: np.ndarray, *, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits inside the rows of a fold's training part, groups whole: (fit rows, held-out rows) each."""
    dealer = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    return list(dealer.split(np.zeros(len(labels)), labels, groups))
