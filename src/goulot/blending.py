"""Greedy ensemble selection with replacement over out-of-fold predictions.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML 2004: add, again and
again, the member whose addition improves the metric most; a member's weight is how often it was taken.
"""

from dataclasses import dataclass

import numpy as np

from goulot.metrics import Metric


@dataclass(frozen=True)
class Nested:
    """The blend's honest score: weights found on the other folds, applied to the fold (n_folds scores)."""

    oof: np.ndarray  # float (n, classes): each row blended with weights that never saw it
    scores: list[float]
    members: list[dict[str, float]]  # the weights found without each fold


def select(members: np.ndarray, y: np.ndarray, metric: Metric, *, rounds: int) -> np.ndarray:
    """Weights of the members, float (members,), summing to 1.

    members: float (members, n, classes). Of the prefixes of the selection the best one counts, so that late rounds
    cannot make it worse.
    """
    counts = np.zeros(len(members))
    total = np.zeros(members.shape[1:])
    best, best_counts = np.inf, counts
    for taken in range(1, rounds + 1):
        losses = [metric.loss(y, (total + member) / taken) for member in members]
        winner = int(np.argmin(losses))
        total += members[winner]
        counts = counts + (np.arange(len(members)) == winner)
        if losses[winner] < best - 1e-12:
            best, best_counts = losses[winner], counts
    return np.asarray(best_counts / best_counts.sum())


def combine(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of the members' probabilities, float (n, classes)."""
    return np.asarray(np.tensordot(weights, members, axes=1))


def nested(members: np.ndarray, names: list[str], y: np.ndarray, fold: np.ndarray, metric: Metric, *,
           rounds: int) -> Nested:  # fmt: skip
    """Cross-validate the selection itself over the ledger's folds."""
    oof = np.zeros(members.shape[1:])
    scores, chosen = [], []
    for held_out in np.unique(fold):
        inside = fold != held_out
        weights = select(members[:, inside], y[inside], metric, rounds=rounds)
        oof[~inside] = combine(members[:, ~inside], weights)
        scores.append(metric.score(y[~inside], oof[~inside]))
        chosen.append(dict(zip(names, weights.tolist(), strict=True)))
    return Nested(oof, scores, chosen)
