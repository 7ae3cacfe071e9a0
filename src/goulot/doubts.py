"""Labels that the out-of-fold predictions doubt.

Classes and labels by confident learning (Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in
dataset labels", JAIR 70, 2021): a row counts as a class where its probability reaches the mean of the class's own rows.
Numbers by the modified z-score of the residuals (Iglewicz and Hoaglin, "How to detect and handle outliers",
1993).
"""

import numpy as np
import pandas as pd

from goulot.targets import Target

MAD = 0.6745  # a normal distribution's median absolute deviation, in standard deviations


def find(y: np.ndarray, p: np.ndarray, target: Target, *, deviation: float) -> pd.DataFrame:
    """The doubted labels, the most doubtful first: row, name, given, suggested, and how doubtful.

    That is `self_confidence`, the probability of what was given, or for numbers `deviation`, the modified z-score, of
    which those beyond the argument count. `name` is the label or number that is meant. y is as `Target.truth` gives it,
    p float (n, names): each row predicted by models that never saw it.
    """
    if target.task == "regression":
        parts = [_numbers(y[:, k], p[:, k], name, deviation) for k, name in enumerate(target.names)]
        return pd.concat(parts).sort_values("deviation", key=lambda z: -z.abs(), kind="stable", ignore_index=True)
    if target.exclusive:
        parts = [_classes(y, p, "label", target.names)]
    else:
        pairs = zip(target.names, y.T.astype(int), p.T, strict=True)
        parts = [_classes(given, np.stack([1 - q, q], axis=1), name, ["0", "1"]) for name, given, q in pairs]
    return pd.concat(parts).sort_values("self_confidence", kind="stable", ignore_index=True)


def thresholds(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """What counts as confident, float (classes,): the mean probability of a class over the rows that have it.

    No less than chance: a class of few rows can have a mean of 0, which every row would reach. Above 1 where no row has
    the class.
    """
    own = np.bincount(y, weights=p[np.arange(len(y)), y], minlength=p.shape[1])
    count = np.bincount(y, minlength=p.shape[1])
    return np.where(count > 0, np.maximum(own / np.maximum(count, 1), 1 / p.shape[1]), np.inf)


def _classes(y: np.ndarray, p: np.ndarray, name: str, names: list[str]) -> pd.DataFrame:
    """Rows that are confidently of another class than the given one, and more probably so."""
    confident = np.where(p >= thresholds(y, p), p, -1.0)
    best, own = confident.argmax(axis=1), p[np.arange(len(y)), y]
    rows = np.flatnonzero((best != y) & (confident.max(axis=1) > own))
    classes = np.array(names, dtype=object)
    columns = {"name": name, "given": classes[y[rows]], "suggested": classes[best[rows]], "self_confidence": own[rows]}
    return pd.DataFrame({"row": rows, **columns})


def _numbers(y: np.ndarray, p: np.ndarray, name: str, most: float) -> pd.DataFrame:
    """Rows whose residual lies further from the median residual; none where most residuals are equal."""
    residual = y - p
    centred = residual - np.median(residual)
    spread = np.median(np.abs(centred))
    z = MAD * centred / spread if spread > 0 else np.zeros_like(centred)
    rows = np.flatnonzero(np.abs(z) > most)
    return pd.DataFrame({"row": rows, "name": name, "given": y[rows], "suggested": p[rows], "deviation": z[rows]})
