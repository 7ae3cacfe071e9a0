"""From predictions to decisions: which class, which labels, which grade; the rules that metrics such as F1 need.

A rule is tuned on out-of-fold predictions, by rows that the rule is not judged on: `blending` keeps to that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from goulot import metrics
from goulot.metrics import Metric
from goulot.targets import Target, Task

CANDIDATES = 200
# For classes, the most probable one is the best answer to these whatever the data.
_MOST_PROBABLE = ("accuracy", "f1_micro")
# Where the metric itself takes predictions, but a submission wants decisions, they are made for this metric.
_DECIDER: dict[Task, str] = {
    "binary": "accuracy", "multiclass": "accuracy", "ordinal": "qwk", "multilabel": "f1_micro",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """How predictions, float (n, names), become decisions in the form of `Target.truth`.

    weights: the class of the largest weighted probability. cuts: the grade is the number of cuts below the expected
    grade. thresholds: the labels above theirs. none: numbers stay as they are.
    """

    kind: Literal["weights", "cuts", "thresholds", "none"]
    values: list[float]

    def decide(self, p: np.ndarray) -> np.ndarray:
        """Class numbers int (n,), else float (n, names)."""
        if self.kind == "weights":
            return np.asarray((p * self.values).argmax(axis=1))
        if self.kind == "cuts":
            return np.asarray(np.searchsorted(self.values, _grade(p)))
        return np.asarray(p > self.values, dtype=float) if self.kind == "thresholds" else p


def score(metric: Metric, y: np.ndarray, p: np.ndarray, rule: Rule) -> float:
    """The score of predictions, by the rule where the metric needs decisions."""
    return metric.score(y, rule.decide(p) if metric.decides else p)


def loss(metric: Metric, y: np.ndarray, p: np.ndarray, rule: Rule) -> float:
    """The score turned so that less is better."""
    return metric.loss(y, rule.decide(p) if metric.decides else p)


def plain(metric: Metric, target: Target) -> Rule:
    """The rule that nothing was tuned for: the most probable class, the nearest grade, labels above one half."""
    if target.task == "regression":
        return Rule("none", [])
    if target.task == "multilabel":
        return Rule("thresholds", [0.5] * len(target.names))
    if metric.name == "qwk":
        return Rule("cuts", [number + 0.5 for number in range(len(target.names) - 1)])
    return Rule("weights", [1.0] * len(target.names))


def tune(metric: Metric, target: Target, y: np.ndarray, p: np.ndarray) -> Rule:
    """The rule that serves the metric best on these rows; for a metric that takes predictions, see `_DECIDER`."""
    rule = plain(metric, target)
    if target.task == "regression":
        return rule
    if not metric.decides:
        return tune(metrics.of(_DECIDER[target.task], target), target, y, p)
    if rule.kind == "thresholds":
        return Rule("thresholds", _thresholds(metric, y, p))
    if rule.kind == "cuts":
        return Rule("cuts", _cuts(metric, y, p, rule.values))
    return rule if metric.name in _MOST_PROBABLE else Rule("weights", _weights(metric, y, p))


def cross(metric: Metric, target: Target, y: np.ndarray, p: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Decisions in the form of the truth, by rules tuned for each fold on the other folds' rows."""
    guesses = np.zeros_like(y)
    for held_out in np.unique(fold):
        inside = fold != held_out
        guesses[~inside] = tune(metric, target, y[inside], p[inside]).decide(p[~inside])
    return guesses


def crossed(metric: Metric, target: Target, y: np.ndarray, p: np.ndarray, fold: np.ndarray) -> float:
    """The score by rules tuned for each fold on the other folds' rows."""
    return metric.score(y, cross(metric, target, y, p, fold) if metric.decides else p)


def every(y: np.ndarray, p: np.ndarray, target: Target) -> dict[str, float]:
    """The scores that are shown for the task, by untuned rules; those that the rows do not define are left out."""
    shown = [metrics.of(name, target) for name in metrics.SHOWN[target.task]]
    scores = {metric.name: score(metric, y, p, plain(metric, target)) for metric in shown}
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _grade(p: np.ndarray) -> np.ndarray:
    return np.asarray(p @ np.arange(p.shape[1]))


def _between(values: np.ndarray) -> np.ndarray:
    """Points between neighbouring values, thinned out evenly."""
    known = np.unique(values)
    points = (known[1:] + known[:-1]) / 2 if len(known) > 1 else known
    return np.asarray(points[np.unique(np.linspace(0, len(points) - 1, CANDIDATES).astype(int))])


def _best(candidates: np.ndarray, judge: Callable[[float], float]) -> float:
    """The middle one of those that `judge` finds best."""
    scores = np.array([judge(float(candidate)) for candidate in candidates])
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(candidates[best[len(best) // 2]])


def _weights(metric: Metric, y: np.ndarray, p: np.ndarray) -> list[float]:
    """Of two classes any threshold, as weights; of more a power of their shares, so that few rows cannot mislead."""
    if p.shape[1] == 2:
        t = _best(_between(p[:, 1]).clip(1e-9, 1 - 1e-9), lambda t: metric.score(y, (p[:, 1] > t).astype(int)))
        return [1.0, (1 - t) / t]
    shares = np.bincount(y, minlength=p.shape[1]).clip(1) / len(y)
    power = _best(np.linspace(0, 1, 5), lambda a: metric.score(y, (p * shares**-a).argmax(axis=1)))
    return list(map(float, shares**-power))


def _cuts(metric: Metric, y: np.ndarray, p: np.ndarray, nearest: list[float]) -> list[float]:
    """Coordinate ascent, from the nearest grades or from cuts that give each grade its true share of the rows."""
    grade = _grade(p)
    shares = np.cumsum(np.bincount(y, minlength=p.shape[1]))[:-1] / len(y)

    def judge(cuts: np.ndarray) -> float:
        return metric.score(y, np.searchsorted(cuts, grade))

    cuts = max(np.array(nearest), np.quantile(grade, shares), key=judge)
    points = _between(grade)[:: CANDIDATES // 50]
    for _ in range(2):
        for number in range(len(cuts)):
            low = cuts[number - 1] if number else -np.inf
            high = cuts[number + 1] if number + 1 < len(cuts) else np.inf
            allowed = np.append(points[(points >= low) & (points <= high)], cuts[number])
            rest = cuts.copy()

            def moved(cut: float, rest: np.ndarray = rest, number: int = number) -> float:
                rest[number] = cut
                return judge(rest)

            cuts[number] = _best(np.sort(allowed), moved)
    return list(map(float, cuts))


def _thresholds(metric: Metric, y: np.ndarray, p: np.ndarray) -> list[float]:
    """One of each label where the metric is a mean over labels, else one for all.

    A common threshold is what maximises the micro-averaged F1 of calibrated probabilities (Lipton, Elkan and
    Naryanaswamy, "Optimal thresholding of classifiers to maximize F1 measure", ECML 2014).
    """
    if metric.name in ("f1_micro", "f1_samples"):
        return [_best(_between(p), lambda t: metric.score(y, p > t))] * p.shape[1]
    by_count = _right if metric.name == "accuracy" else _f1
    return [_threshold(y[:, number], p[:, number], by_count) for number in range(p.shape[1])]


def _threshold(
    y: np.ndarray, p: np.ndarray, by_count: Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]
) -> float:
    """The best of all cuts of a label's ranking; half of it where no row has the label."""
    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    hits = np.r_[0, np.cumsum(y[order])]
    scores = by_count(hits, np.arange(len(p) + 1), int(y.sum()), len(p))
    edges = np.r_[1.0, (ranked[1:] + ranked[:-1]) / 2, 0.0]
    cut = np.r_[True, ranked[1:] < ranked[:-1], True]  # equals cannot be told apart
    if not y.any():
        return 0.5
    return float(edges[cut][scores[cut].argmax()])


def _f1(hits: np.ndarray, taken: np.ndarray, positives: int, rows: int) -> np.ndarray:
    return np.asarray(2 * hits / np.maximum(taken + positives, 1))


def _right(hits: np.ndarray, taken: np.ndarray, positives: int, rows: int) -> np.ndarray:
    return np.asarray((rows - positives - taken + 2 * hits) / rows)
