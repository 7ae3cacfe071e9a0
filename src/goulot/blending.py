"""Blending of learners by their out-of-fold predictions; every choice is made on other rows than it is judged on.

Greedy selection with replacement: Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of
models", ICML 2004: add, again and again, the member whose addition improves the metric most; a member's weight is how
often it was taken. Bagged (Caruana, Munson and Niculescu-Mizil, "Getting the most out of ensemble selection", ICDM
2006) it is the mean over resampled rows. Its rivals are the plain mean, which learns nothing and so cannot learn what
holds in some folds alone, and stackers (Wolpert 1992): a learner fitted on the members' predictions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from pydantic import Field
from scipy.special import logit

from goulot import calibration, decisions, fitting
from goulot.decisions import Rule
from goulot.learners import Context, Factory, lightgbm, logistic
from goulot.metrics import Metric
from goulot.params import Section
from goulot.progress import track
from goulot.targets import Target

Method = Literal["mean", "greedy", "logistic", "lightgbm"]  # the simplest first

BAG = 5000  # rows of a bag at most
NOTHING = 1e-4  # share of the loss by which a member that is kept lowers it at least
MOST_NAMES = 12  # with more of them stackers have too much to learn, and take too long
STACKERS: dict[Method, Factory] = {
    "logistic": lambda context: logistic.make(logistic.Params(C=0.1), context),
    "lightgbm": lambda context: lightgbm.make(
        lightgbm.Params(trees=50, learning_rate=0.08, leaves=4, column_share=0.7, l2=10), context
    ),
}


class Recipe(Section):
    """How members become one prediction."""

    methods: list[Method] | None = Field(
        None,
        min_length=1,
        description="rivals, of which cross-validation chooses one; empty means all, of many names mean and greedy",
    )
    rounds: int = Field(30, ge=1, le=1000, description="members that greedy selection takes, with replacement")
    bags: int = Field(10, ge=0, le=1000, description="resamplings of the rows it is the mean of; 0: all rows, once")
    calibrate: calibration.Kind = Field("temperature", description="what each member's probabilities get first")
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1, le=256, description="fixed, since the last bits of a result depend on it")


@dataclass(frozen=True)
class Blend:
    """What turns members, float (members, n, names), into predictions (n, names), and the rule that makes decisions.

    `weights` sum to 1, float (members,); of a stacker's members they are NaN, and 0 of those that it was not given.
    `losses` are those of every method.
    """

    method: Method
    weights: np.ndarray
    of: Callable[[np.ndarray], np.ndarray]
    rule: Rule
    losses: dict[Method, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Nested:
    """The blend's honest predictions: method, weights and rule found on the other folds, applied to the fold."""

    oof: np.ndarray  # float (n, names): each row blended by what never saw it
    guesses: np.ndarray  # the decisions on them, in the form of the truth
    members: list[np.ndarray]  # the weights found without each fold
    methods: list[Method]

    def score(self, metric: Metric, y: np.ndarray) -> float:
        """The metric's score over all rows."""
        return metric.score(y, self.guesses if metric.decides else self.oof)

    def loss(self, metric: Metric, y: np.ndarray) -> float:
        """The score turned so that less is better; infinite where it is not defined."""
        return metric.loss(y, self.guesses if metric.decides else self.oof)

    def by_fold(self, metric: Metric, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """The loss of each fold's rows, float (folds,)."""
        given = self.guesses if metric.decides else self.oof
        return np.array([metric.loss(y[fold == held], given[fold == held]) for held in np.unique(fold)])


@dataclass(frozen=True)
class Aim:
    """What is blended for, and how."""

    metric: Metric
    target: Target
    recipe: Recipe

    @property
    def methods(self) -> Sequence[Method]:
        """The methods that are tried, the simplest first: those asked for, else all, but of many names no stackers."""
        every: tuple[Method, ...] = get_args(Method)
        wanted = self.recipe.methods or (every if len(self.target.names) <= MOST_NAMES else every[:2])
        return sorted(wanted, key=every.index)


def fit(members: np.ndarray, y: np.ndarray, fold: np.ndarray, aim: Aim) -> Blend:
    """The blend by the method that cross-validation over these rows' folds finds best, or a simpler one as good."""
    losses: dict[Method, float] = dict.fromkeys(aim.methods, np.inf)
    best = next(iter(losses))
    if len(losses) > 1 and len(np.unique(fold)) > 1:
        tried = {method: _tried(method, members, y, fold, aim) for method in losses}
        losses = {method: result.loss(aim.metric, y) for method, result in tried.items()}
        best = _simplest(losses, {method: result.by_fold(aim.metric, y, fold) for method, result in tried.items()})
    kept = _kept(best, members, y, fold, aim)
    made = _fit(best, members[kept], y, aim)
    weights = np.zeros(len(members))
    weights[kept] = made.weights
    return replace(made, weights=weights, of=lambda members: made.of(members[kept]), losses=losses)


def _simplest(losses: Mapping[Method, float], by_fold: Mapping[Method, np.ndarray]) -> Method:
    """The first method whose loss is within a standard error of the least one (Breiman et al. 1984).

    The error is that of the difference, by the folds, each of which counts as much: where these differ as whole modules
    or hospitals do, what a method gains by learning more is hardly told from luck.
    """
    best = min(losses, key=losses.__getitem__)
    for method, loss in by_fold.items():
        if method == best or _as_good(loss, by_fold[best]):
            return method
    return best


def _as_good(loss: np.ndarray, least: np.ndarray) -> bool:
    """Whether it is not larger by more than a standard error, on the folds that have one: some have a single class."""
    known = np.isfinite(least)
    more = loss[known] - least[known]
    return len(more) > 1 and bool(np.isfinite(more).all() and more.mean() <= more.std(ddof=1) / np.sqrt(len(more)))


def _loss(method: Method, members: np.ndarray, y: np.ndarray, fold: np.ndarray, aim: Aim) -> float:
    """A method's cross-validated loss."""
    return _tried(method, members, y, fold, aim).loss(aim.metric, y)


def _tried(method: Method, members: np.ndarray, y: np.ndarray, fold: np.ndarray, aim: Aim) -> "Nested":
    """A method, cross-validated."""

    def without(inside: np.ndarray) -> Blend:
        # Only the loss is asked for: a rule for decisions would be tuned for nothing unless it is their loss.
        return _fit(method, members[:, inside], y[inside], aim, rule=_rule if aim.metric.decides else _plain)

    return _crossed(without, members, y, fold, np.unique(fold))


def _kept(method: Method, members: np.ndarray, y: np.ndarray, fold: np.ndarray, aim: Aim) -> np.ndarray:
    """Which members a stacker is given, a mask: those without which the cross-validated loss rises, as in `dropped`.

    The loss is that of the logistic stacker, which is quick; the worst member by itself is tried first. The mean takes
    all, and greedy selection is given all: its weights tell.
    """
    kept = np.ones(len(members), dtype=bool)
    if method in ("mean", "greedy") or len(members) < 2 or len(np.unique(fold)) < 2:
        return kept
    judge: Method = "logistic"
    loss, plain = _loss(judge, members, y, fold, aim), _plain(aim, y, members[0])
    alone = [decisions.loss(aim.metric, y, member, plain) for member in members]
    for member in np.argsort(alone, kind="stable")[::-1]:
        fewer = kept & (np.arange(len(members)) != member)
        if fewer.any() and _adds_nothing(loss, without := _loss(judge, members[fewer], y, fold, aim)):
            kept, loss = fewer, min(loss, without)
    return kept


def nested(members: np.ndarray, y: np.ndarray, fold: np.ndarray, aim: Aim) -> Nested:
    """Cross-validate method, calibration, selection and rule themselves, over the ledger's folds."""

    def without(inside: np.ndarray) -> Blend:
        return fit(members[:, inside], y[inside], fold[inside], aim)

    folds = np.unique(fold)
    return _crossed(without, members, y, fold, track(folds, total=len(folds), unit="folds", label="blend"))


def _crossed(without: Callable[[np.ndarray], Blend], members: np.ndarray, y: np.ndarray, fold: np.ndarray,
             folds: Iterable[int]) -> Nested:  # fmt: skip
    """Each fold's rows by the blend of the others, which `without` makes of a mask of them."""
    oof, guesses = np.zeros(members.shape[1:]), np.zeros_like(y)
    blends = []
    for held_out in folds:
        inside = fold != held_out
        blend = without(inside)
        oof[~inside] = blend.of(members[:, ~inside])
        guesses[~inside] = blend.rule.decide(oof[~inside])
        blends.append(blend)
    return Nested(oof, guesses, [blend.weights for blend in blends], [blend.method for blend in blends])


def _rule(aim: Aim, y: np.ndarray, p: np.ndarray) -> Rule:
    return decisions.tune(aim.metric, aim.target, y, p)


def _plain(aim: Aim, y: np.ndarray, p: np.ndarray) -> Rule:
    return decisions.plain(aim.metric, aim.target)


def _fit(method: Method, members: np.ndarray, y: np.ndarray, aim: Aim,
         rule: Callable[[Aim, np.ndarray, np.ndarray], Rule] = _rule) -> Blend:  # fmt: skip
    """Calibrate, combine, tune the rule, in this order, all on the same rows; a mean is of what the members say."""
    if method == "mean":
        equal = np.full(len(members), 1 / len(members))
        tuned = rule(aim, y, combine(members, equal))
        return Blend(method, equal, lambda members: _final(combine(members, equal), aim), tuned)
    calibrators = [calibration.fit(aim.recipe.calibrate, p, y, aim.target) for p in members]

    def calibrated(members: np.ndarray) -> np.ndarray:
        return np.stack([calibrator(p) for calibrator, p in zip(calibrators, members, strict=True)])

    warm = calibrated(members)
    if method == "greedy":
        weights = _bagged(warm, y, aim)
        tuned = rule(aim, y, combine(warm, weights))
        return Blend(method, weights, lambda members: _final(combine(calibrated(members), weights), aim), tuned)
    stack = _stacked(warm, aim.target)
    context = Context(aim.recipe.seed, aim.recipe.threads, aim.target)
    learned = fitting.fit(STACKERS[method], context, stack, y, np.arange(len(y)))
    tuned = rule(aim, y, learned(stack))
    nothing = np.full(len(members), np.nan)
    return Blend(
        method, nothing, lambda members: _final(learned(_stacked(calibrated(members), aim.target)), aim), tuned
    )


def _final(p: np.ndarray, aim: Aim) -> np.ndarray:
    """Predictions as the metric can bear them."""
    return calibration.clipped(p, aim.target) if aim.metric.name == "log_loss" else p


def _stacked(members: np.ndarray, target: Target) -> np.ndarray:
    """The members' numbers, or the logits of their probabilities, side by side, float32 (n, members x names)."""
    if target.task != "regression":
        members = logit(members.clip(calibration.CLIP, 1 - calibration.CLIP))
    return np.concatenate(list(members), axis=1, dtype=np.float32)


def _bagged(members: np.ndarray, y: np.ndarray, aim: Aim) -> np.ndarray:
    """The mean of the weights over resampled rows; decisions are judged by a rule for the plain mean."""
    rule = (_rule if aim.metric.decides else _plain)(aim, y, members.mean(axis=0))
    rounds = aim.recipe.rounds
    if not aim.recipe.bags:
        return dropped(members, y, aim.metric, rule, select(members, y, aim.metric, rule, rounds=rounds))
    found = []
    for bag in range(aim.recipe.bags):
        rows = np.random.default_rng([aim.recipe.seed, bag]).integers(len(y), size=min(len(y), BAG))
        found.append(select(members[:, rows], y[rows], aim.metric, rule, rounds=rounds))
    return dropped(members, y, aim.metric, rule, np.asarray(np.mean(found, axis=0)))


def dropped(members: np.ndarray, y: np.ndarray, metric: Metric, rule: Rule, weights: np.ndarray) -> np.ndarray:
    """The weights without members that add nothing: without which the loss rises by less than a ten-thousandth of it.

    A bag or a late round takes members for their luck on its rows. The lightest is tried first, one at a time.
    """
    loss = decisions.loss(metric, y, combine(members, weights), rule)
    for member in np.argsort(weights, kind="stable"):
        fewer = np.where(np.arange(len(weights)) == member, 0.0, weights)
        if weights[member] == 0 or not fewer.any() or not np.isfinite(loss):
            continue
        fewer = fewer / fewer.sum()
        without = decisions.loss(metric, y, combine(members, fewer), rule)
        if _adds_nothing(loss, without):
            weights, loss = fewer, min(loss, without)
    return weights


def _adds_nothing(loss: float, without: float) -> bool:
    return without <= loss + NOTHING * abs(loss)


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
