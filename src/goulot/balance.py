"""Class weights: rare classes and labels count as much as common ones in a fit, and its probabilities are turned back.

A weighted fit predicts as if all classes were equally common. Elkan, "The foundations of cost-sensitive learning",
IJCAI 2001: dividing by the weights gives the probabilities for rows as they come, which log-loss and thresholds want.
"""

from typing import Literal

import numpy as np

ClassWeight = Literal["balanced"]
LEAST = 1e-12


def weights(y: np.ndarray) -> np.ndarray:
    """As scikit-learn's `balanced`: all rows over the class's, per class. y: class numbers (n,), or labels (n, names).

    Float (classes,), or of labels (names, 2): of rows without and with each.
    """
    if y.ndim == 1:
        return np.asarray(len(y) / (y.max() + 1) / np.bincount(y))
    share = np.stack([1 - y.mean(axis=0), y.mean(axis=0)], axis=1)
    return np.asarray(1 / (2 * share.clip(LEAST)))


def of_rows(weights: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What each row, or each of its labels, counts; float, of y's shape."""
    if y.ndim == 1:
        return np.asarray(weights[y])
    return np.where(y > 0, weights[:, 1], weights[:, 0])


def undone(p: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Probabilities of a weighted fit, float (n, names), as of an unweighted one; unchanged without weights."""
    if weights is None:
        return p
    if weights.ndim == 1:
        p = p / weights
        return np.asarray(p / p.sum(axis=1, keepdims=True).clip(LEAST))
    present, absent = p / weights[:, 1], (1 - p) / weights[:, 0]
    return np.asarray(present / (present + absent).clip(LEAST))
