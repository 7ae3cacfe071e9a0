"""How far a score may be trusted: standard errors by the bootstrap over groups, and folds that differ."""

import numpy as np

from goulot.metrics import Metric

DRAWS, LEAST = 200, 40
ROWS, CELLS = 20_000, 1e5  # of a draw at most: what bounds the time where there are many images or classes
LEAST_SEEN = 1e-3  # less is no difference to a person
DIFFERS = 3.0  # standard errors by which a fold's score is off before a person is told


def error(metric: Metric, y: np.ndarray, taken: np.ndarray, group: np.ndarray, *, seed: int = 0) -> float:
    """The standard error of a score, over draws of whole groups with replacement; NaN where it is not defined.

    y and taken as the metric wants them, group int (n,): near-duplicates vary together, so they are drawn together
    (Efron, "Bootstrap methods", Annals of Statistics 7, 1979). Of many rows a draw is a part, and the error is
    scaled by the root of its share (Bickel, Goetze and van Zwet, "Resampling fewer than n observations", 1997).
    """
    rng = np.random.default_rng(seed)
    _, number = np.unique(group, return_inverse=True)
    order, sizes = np.argsort(number, kind="stable"), np.bincount(number)
    starts = np.cumsum(sizes) - sizes
    width = taken.shape[1] if taken.ndim > 1 else 1
    share = min(1.0, max(500.0, min(ROWS, CELLS / width)) / len(y))
    count = max(2, round(share * len(sizes)))
    draws = int(np.clip(20 * CELLS / (share * taken.size), LEAST, DRAWS))
    found = []
    for _ in range(draws):
        drawn = rng.integers(len(sizes), size=count)
        ends = np.cumsum(sizes[drawn])
        rows = order[np.arange(ends[-1]) + np.repeat(starts[drawn] - ends + sizes[drawn], sizes[drawn])]
        found.append(metric.score(y[rows], taken[rows]))
    known = np.array([value for value in found if np.isfinite(value)])
    return float(known.std(ddof=1) * share**0.5) if len(known) > 1 else float("nan")


def by_fold(metric: Metric, y: np.ndarray, taken: np.ndarray, fold: np.ndarray) -> dict[int, float]:
    """The score within each fold; NaN where its rows do not define it."""
    return {int(f): metric.score(y[fold == f], taken[fold == f]) for f in np.unique(fold)}


def strange_folds(
    metric: Metric, y: np.ndarray, taken: np.ndarray, fold: np.ndarray, group: np.ndarray
) -> list[tuple[int, float, float, float]]:
    """Folds more than three of their own standard errors off the others' median: fold, score, error and median."""
    scores = by_fold(metric, y, taken, fold)
    found = []
    for f, score in scores.items():
        inside = fold == f
        others = [other for g, other in scores.items() if g != f and np.isfinite(other)]
        own = error(metric, y[inside], taken[inside], group[inside])
        if others and own > 0 and abs(score - np.median(others)) > max(DIFFERS * own, LEAST_SEEN):
            found.append((f, score, own, float(np.median(others))))
    return found
