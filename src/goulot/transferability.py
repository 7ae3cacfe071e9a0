"""Transferability: how well a column of features suits a task, without training on it; shown beside the probe."""

import numpy as np
from scipy.linalg import eigh
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 10
ITERATIONS, TOLERANCE = 100, 1e-5
EMPTY = 1e-10  # share of the largest eigenvalue below which one counts as zero


def logme(X: np.ndarray, y: np.ndarray) -> float:
    """LogME (You et al. 2021): the log evidence a row of a Bayesian linear model, maximised over its two precisions.

    X is float (n, d); y is float (n, targets), a one-hot column a class; the mean over the targets is returned. For
    each target, weights have the precision alpha and the noise beta; both are found by MacKay's fixed point.
    """
    X = X.astype(np.float64)
    tall = len(X) >= X.shape[1]
    values, vectors = eigh(X.T @ X if tall else X @ X.T)  # the smaller of the two Gram matrices
    kept = values > EMPTY * max(values[-1], 1.0)
    values, vectors = values[kept], vectors[:, kept]
    projected = ((X @ vectors) / np.sqrt(values)).T @ y if tall else vectors.T @ y
    return float(np.mean([_evidence(len(X), values, x, t @ t) for x, t in zip(projected.T, y.T, strict=True)]))


def _evidence(rows: int, values: np.ndarray, x: np.ndarray, square: float) -> float:
    """The evidence a row of one target: `values` are the squared singular values, `x` the target in their basis.

    A direction without features adds ln(alpha) to both sides of the fraction, so only the others are summed.
    """
    alpha = beta = 1.0
    for _ in range(ITERATIONS):
        ratio = alpha / beta
        gamma = float((values / (values + ratio)).sum())
        weights = float((values * x**2 / (ratio + values) ** 2).sum())
        rest = float((x**2 / (1 + values / ratio) ** 2).sum() + max(square - x @ x, 0.0))
        alpha, beta = gamma / max(weights, 1e-12), (rows - gamma) / max(rest, 1e-12)
        if abs(alpha / beta - ratio) <= TOLERANCE * ratio:
            break
    ratio = alpha / beta
    weights = float((values * x**2 / (ratio + values) ** 2).sum())
    rest = float((x**2 / (1 + values / ratio) ** 2).sum() + max(square - x @ x, 0.0))
    total = (
        len(values) * np.log(alpha) + rows * np.log(beta) - np.log(alpha + beta * values).sum()
        - beta * rest - alpha * weights - rows * np.log(2 * np.pi)
    )  # fmt: skip
    return float(total / 2 / rows)


def neighbours(X: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The mean truth of a row's nearest rows (cosine) in the other folds; X (n, d), y (n, targets) -> (n, targets)."""
    X = StandardScaler().fit_transform(X)
    found = np.zeros_like(y, dtype=np.float64)
    for number in np.unique(fold):
        inside = fold != number
        count = min(NEIGHBOURS, int(inside.sum()))
        index = NearestNeighbors(n_neighbors=count, metric="cosine").fit(X[inside])
        found[~inside] = y[inside][index.kneighbors(X[~inside], return_distance=False)].mean(axis=1)
    return found


def gram(X: np.ndarray) -> np.ndarray:
    """The centred Gram matrix of the rows, of norm 1, float32 (n, n): what `alignment` compares."""
    centred = X.astype(np.float64) - X.mean(axis=0)
    kernel = centred @ centred.T
    return np.asarray(kernel / max(np.linalg.norm(kernel), 1e-12), dtype=np.float32)


def alignment(one: np.ndarray, other: np.ndarray) -> float:
    """Linear centred kernel alignment (Kornblith 2019) of two `gram`s: 1 where one column says what the other does."""
    return float(np.vdot(one, other))
