"""The registry of metrics. A metric is one entry: its title, its direction, the tasks it is for and its function."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.stats import rankdata
from sklearn import metrics as sk

from goulot.errors import ParamsError, choices
from goulot.targets import Target, Task, numbers_of

# Competitions clip probabilities before a logarithm; scikit-learn does so at the precision of the dtype.
EPSILON = 1e-15

CLASSES: tuple[Task, ...] = ("binary", "multiclass", "ordinal")
LABELS: tuple[Task, ...] = (*CLASSES, "multilabel")
RANKED: tuple[Task, ...] = ("multiclass", "ordinal", "multilabel")


@dataclass(frozen=True)
class Metric:
    """`score` takes the truth as `Target.truth` gives it, and predictions float (n, names).

    A metric that `decides` takes decisions in place of predictions: they have the form of the truth (decisions.py).
    NaN where the rows do not define the score.
    """

    name: str
    title: str
    greater_is_better: bool
    tasks: tuple[Task, ...]
    score: Callable[[np.ndarray, np.ndarray], float]
    decides: bool = False

    def loss(self, y: np.ndarray, p: np.ndarray) -> float:
        """The score turned so that less is better; infinite where it is not defined."""
        score = self.score(y, p)
        return np.inf if np.isnan(score) else -score if self.greater_is_better else score


def _log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Of the class that is true; for labels, the mean over all of them."""
    right = p[np.arange(len(y)), y] if y.ndim == 1 else np.where(y == 1, p, 1 - p)
    return float(-np.log(np.clip(right, EPSILON, 1 - EPSILON)).mean())


def _roc_auc(y: np.ndarray, p: np.ndarray) -> float:
    """Of the second class where there are two, else the mean over the classes or labels that have both kinds of rows.

    By ranks: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143, 1982.
    """
    true = y == 1 if y.ndim > 1 else y[:, None] == np.arange(p.shape[1])  # (n, names)
    if y.ndim == 1 and p.shape[1] == 2:
        true, p = true[:, 1:], p[:, 1:]
    with_, without = true.sum(axis=0), (~true).sum(axis=0)
    both = (with_ > 0) & (without > 0)
    if not both.any():
        return float("nan")
    true, with_, without = true[:, both], with_[both], without[both]
    ranks = np.where(true, rankdata(p[:, both], axis=0), 0).sum(axis=0)
    return float(((ranks - with_ * (with_ + 1) / 2) / (with_ * without)).mean())


def _accuracy(y: np.ndarray, guesses: np.ndarray) -> float:
    """The share of right classes, or of right labels over all images and labels."""
    return float((y == guesses).mean())


def _balanced(y: np.ndarray, guesses: np.ndarray) -> float:
    return float(np.mean([(guesses[y == c] == c).mean() for c in np.unique(y)]))


def _f1(average: str) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda y, guesses: float(sk.f1_score(y, guesses, average=average, zero_division=0.0))


def _kappa(y: np.ndarray, guesses: np.ndarray, *, grades: np.ndarray | None = None) -> float:
    """Cohen, "Weighted kappa", Psychological Bulletin 70, 1968, with the squared distance of the classes' grades.

    Where no grades are given they are the classes' numbers.
    """
    if grades is not None:
        y, guesses = grades[y], grades[guesses]
    apart = (np.square(y - guesses)).mean()
    by_chance = np.square(y[:, None] - np.unique(guesses))  # (n, levels that were guessed)
    share = np.unique(guesses, return_counts=True)[1] / len(guesses)
    expected = (by_chance @ share).mean()
    return float(1 - apart / expected) if expected else 1.0


def _rmse(y: np.ndarray, p: np.ndarray) -> float:
    return float(np.sqrt(np.square(y - p).mean(axis=0)).mean())


def _r2(y: np.ndarray, p: np.ndarray) -> float:
    return float(sk.r2_score(y, p)) if len(y) > 1 else float("nan")


def _mean_average_precision(y: np.ndarray, p: np.ndarray, *, at: int) -> float:
    """Of the first `at` names by falling prediction; among equals the earlier name stands first."""
    if y.ndim == 1:
        own = p[np.arange(len(y)), y][:, None]
        earlier = np.arange(p.shape[1]) < y[:, None]
        place = 1 + ((p > own) | ((p == own) & earlier)).sum(axis=1)
        return float(np.where(place <= at, 1 / place, 0).mean())
    first = np.argsort(-p, axis=1, kind="stable")[:, :at]
    hits = np.take_along_axis(y, first, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(axis=1) / np.clip(y.sum(axis=1), 1, at)).mean())


METRICS = {
    metric.name: metric
    for metric in (
        Metric("log_loss", "log-loss", False, LABELS, _log_loss),
        Metric("roc_auc", "ROC AUC", True, LABELS, _roc_auc),
        Metric("accuracy", "accuracy", True, LABELS, _accuracy, decides=True),
        Metric("balanced_accuracy", "balanced accuracy", True, CLASSES, _balanced, decides=True),
        Metric("f1", "F1", True, ("binary",), _f1("binary"), decides=True),
        Metric("f1_macro", "macro F1", True, LABELS, _f1("macro"), decides=True),
        Metric("f1_weighted", "weighted F1", True, LABELS, _f1("weighted"), decides=True),
        Metric("f1_micro", "micro F1", True, LABELS, _f1("micro"), decides=True),
        Metric("f1_samples", "F1, mean over images", True, ("multilabel",), _f1("samples"), decides=True),
        Metric("qwk", "quadratic weighted kappa", True, ("ordinal", "multiclass"), _kappa, decides=True),
        Metric("rmse", "RMSE", False, ("regression",), _rmse),
        Metric("mae", "MAE", False, ("regression",), lambda y, p: float(np.abs(y - p).mean())),
        Metric("r2", "R²", True, ("regression",), _r2),
        # Any other number of names may stand in place of the 5.
        Metric("map@5", "mean average precision at 5", True, RANKED, partial(_mean_average_precision, at=5)),
    )
}

# What `auto` means, and what is shown beside the metric that was chosen.
AUTO: dict[Task, str] = {
    "binary": "log_loss", "multiclass": "log_loss", "ordinal": "qwk", "multilabel": "roc_auc", "regression": "rmse",
}  # fmt: skip
SHOWN: dict[Task, tuple[str, ...]] = {
    "binary": ("log_loss", "roc_auc", "accuracy", "balanced_accuracy", "f1"),
    "multiclass": ("log_loss", "roc_auc", "accuracy", "balanced_accuracy", "f1_macro"),
    "ordinal": ("qwk", "log_loss", "accuracy", "balanced_accuracy"),
    "multilabel": ("roc_auc", "log_loss", "f1_micro", "f1_macro"),
    "regression": ("rmse", "mae", "r2"),
}


def find(name: str) -> Metric:
    """The metric of that name. Raises ParamsError listing the known ones."""
    if match := re.fullmatch(r"map@?([1-9]\d*)", name):
        at = int(match[1])
        title = f"mean average precision at {at}"
        return Metric(f"map@{at}", title, True, RANKED, partial(_mean_average_precision, at=at))
    if name not in METRICS:
        raise ParamsError(choices("metric", name, ["auto", *METRICS], "the metrics are"))
    return METRICS[name]


def of(name: str, target: Target) -> Metric:
    """The metric of that name, `auto` being the task's own, with the target's grades where it compares such.

    Raises ParamsError where it is not for the task.
    """
    metric, grades = find(AUTO[target.task] if name == "auto" else name), _grades(target)
    if target.task not in metric.tasks:
        able = [known.name for known in METRICS.values() if target.task in known.tasks]
        fitting = ", ".join(known for known in able if known != "qwk" or grades is not None)
        raise ParamsError(
            f"params.yaml: blend.metric is {name}, which is for {', '.join(metric.tasks)} targets; "
            f"this one is {target.task}, for which there are auto, {fitting}"
        )
    if metric.name != "qwk":
        return metric
    if grades is None:
        words = ", ".join(target.names[:4])
        raise ParamsError(
            f"params.yaml: blend.metric is {name}, which compares grades, and the classes {words} have no order; set "
            "ingest.task to ordinal, ingest.classes to them from the lowest to the highest, and then blend.metric"
        )
    return replace(metric, score=partial(_kappa, grades=grades))


def _grades(target: Target) -> np.ndarray | None:
    """The classes as numbers, float (names,): rising ones that they are, or their places in an order; else None."""
    numbers = numbers_of(target.names)
    if numbers is not None and numbers == sorted(numbers):
        return np.array(numbers)
    return np.arange(len(target.names), dtype=float) if target.task == "ordinal" else None
