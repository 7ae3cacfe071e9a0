"""Greedy ensemble selection with replacement over out-of-fold predictions.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML 2004: add, again and
again, the member whose addition improves the metric most; a member's weight is how often it was taken.
"""

from dataclasses import dataclass

import numpy as np

from goulot import calibration, decisions
from goulot.decisions import Rule
from goulot.metrics import Metric
from goulot.targets import Target


@dataclass(frozen=True)
class Blend:
    """Weights that sum to 1 and temperatures, float (members,) each, and the rule that makes decisions."""

    weights: np.ndarray
    temperatures: np.ndarray
    rule: Rule

    def of(self, members: np.ndarray, target: Target) -> np.ndarray:
        """The blended predictions, float (n, names), of members, float (members, n, names)."""
        return combine(warmed(members, self.temperatures, target), self.weights)


@dataclass(frozen=True)
class Nested:
    """The blend's honest predictions: weights and rule found on the other folds, applied to the fold."""

    oof: np.ndarray  # float (n, names): each row blended with weights that never saw it
    guesses: np.ndarray  # the decisions on them, in the form of the truth
    members: list[dict[str, float]]  # the weights found without each fold

    def score(self, metric: Metric, y: np.ndarray) -> float:
        """The metric's score over all rows."""
        return metric.score(y, self.guesses if metric.decides else self.oof)


def fit(
    members: np.ndarray, y: np.ndarray, metric: Metric, target: Target, *, rounds: int, calibrate: bool = True
) -> Blend:
    """Find temperatures, weights and rule, in this order.

    Decisions are judged by a rule for the plain mean first, then the blend gets its own. members: float (members, n,
    names).
    """
    temperatures = np.array([calibration.temperature(p, y, target) if calibrate else 1.0 for p in members])
    members = warmed(members, temperatures, target)
    weights = select(members, y, metric, decisions.tune(metric, target, y, members.mean(axis=0)), rounds=rounds)
    return Blend(weights, temperatures, decisions.tune(metric, target, y, combine(members, weights)))


def warmed(members: np.ndarray, temperatures: np.ndarray, target: Target) -> np.ndarray:
    """The members' predictions, each at its temperature."""
    return np.stack([calibration.warm(p, float(t), target) for p, t in zip(members, temperatures, strict=True)])


def select(members: np.ndarray, y: np.ndarray, metric: Metric, rule: Rule, *, rounds: int) -> np.ndarray:
    """Weights of the members, float (members,), summing to 1.

    Of the prefixes of the selection the best one counts, so that late rounds cannot make it worse. All are equal where
    no prefix has a score.
    """
    counts = np.zeros(len(members))
    total = np.zeros(members.shape[1:])
    best, best_counts = np.inf, np.ones(len(members))
    for taken in range(1, rounds + 1):
        losses = [decisions.loss(metric, y, (total + member) / taken, rule) for member in members]
        winner = int(np.argmin(losses))
        total += members[winner]
        counts = counts + (np.arange(len(members)) == winner)
        if losses[winner] < best - 1e-12:
            best, best_counts = losses[winner], counts
    return np.asarray(best_counts / best_counts.sum())


def combine(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of the members' predictions, float (n, names)."""
    return np.asarray(np.tensordot(weights, members, axes=1))


def nested(members: np.ndarray, names: list[str], y: np.ndarray, fold: np.ndarray, metric: Metric, target: Target, *,
           rounds: int, calibrate: bool = True) -> Nested:  # fmt: skip
    """Cross-validate calibration and selection themselves, and the rule, over the ledger's folds."""
    oof, guesses = np.zeros(members.shape[1:]), np.zeros_like(y)
    chosen = []
    for held_out in np.unique(fold):
        inside = fold != held_out
        blend = fit(members[:, inside], y[inside], metric, target, rounds=rounds, calibrate=calibrate)
        oof[~inside] = blend.of(members[:, ~inside], target)
        guesses[~inside] = blend.rule.decide(oof[~inside])
        chosen.append(dict(zip(names, blend.weights.tolist(), strict=True)))
    return Nested(oof, guesses, chosen)
