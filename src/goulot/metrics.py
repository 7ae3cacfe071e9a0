"""The registry of metrics. A metric is one entry: its title, its direction and its function."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from goulot.errors import ParamsError, choices

# Competitions clip probabilities before a logarithm; scikit-learn does so at the precision of the dtype.
EPSILON = 1e-15


@dataclass(frozen=True)
class Metric:
    """`score` takes class numbers int (n,) and probabilities float (n, classes)."""

    title: str
    greater_is_better: bool
    score: Callable[[np.ndarray, np.ndarray], float]

    def loss(self, y: np.ndarray, p: np.ndarray) -> float:
        """The score turned so that less is better."""
        return -self.score(y, p) if self.greater_is_better else self.score(y, p)


def _log_loss(y: np.ndarray, p: np.ndarray) -> float:
    right = np.clip(p[np.arange(len(y)), y], EPSILON, 1 - EPSILON)
    return float(-np.log(right).mean())


def _roc_auc(y: np.ndarray, p: np.ndarray) -> float:
    """Of the second class where there are two, else the mean over classes, each against the rest."""
    classes = [1] if p.shape[1] == 2 else [c for c in range(p.shape[1]) if 0 < (y == c).sum() < len(y)]
    return float(np.mean([sk.roc_auc_score(y == c, p[:, c]) for c in classes]))


def _f1(y: np.ndarray, p: np.ndarray) -> float:
    """Of the second class where there are two, else the mean over classes."""
    average = "binary" if p.shape[1] == 2 else "macro"
    return float(sk.f1_score(y, p.argmax(1), average=average, zero_division=0.0))


METRICS = {
    "log_loss": Metric("log-loss", False, _log_loss),
    "roc_auc": Metric("ROC AUC", True, _roc_auc),
    "accuracy": Metric("accuracy", True, lambda y, p: float(sk.accuracy_score(y, p.argmax(1)))),
    "balanced_accuracy": Metric("balanced accuracy", True, lambda y, p: float(_balanced(y, p))),
    "f1": Metric("F1", True, _f1),
}


def _balanced(y: np.ndarray, p: np.ndarray) -> float:
    guesses = p.argmax(1)
    return float(np.mean([(guesses[y == c] == c).mean() for c in np.unique(y)]))


def find(name: str) -> Metric:
    """The metric of that name. Raises ParamsError listing the known ones."""
    if name not in METRICS:
        raise ParamsError(choices("metric", name, METRICS, "the metrics are"))
    return METRICS[name]


def every(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """All metrics of a set of predictions."""
    return {name: metric.score(y, p) for name, metric in METRICS.items()}
