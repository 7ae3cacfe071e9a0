"""Which columns are worth stacking: a linear probe of each, and a greedy choice under a budget."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from goulot.metrics import METRICS

ALL = "all"


def probe(X: np.ndarray, y: np.ndarray, fold: np.ndarray, *, alpha: float) -> dict[str, float]:
    """Cross-validated ROC AUC of a ridge classifier, for all rows ("all") and for each fold from the other folds' rows.

    The score of fold f's choice never sees f: its probes are fitted on the rows outside f and g and predict g. One such
    fit serves the choices of both f and g. X is float32 (n, channels), y class numbers (n,), fold int (n,).
    """
    folds = np.unique(fold)
    decisions: dict[tuple[str, int], np.ndarray] = {}
    for held_out in [*((f,) for f in folds), *combinations(folds, 2)]:
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha)).fit(
            X[~np.isin(fold, held_out)], y[~np.isin(fold, held_out)]
        )
        for left_out, predicted in _roles(held_out):
            decisions[left_out, predicted] = _scores(model, X[fold == predicted], int(y.max()) + 1)
    return {choice: _auc(decisions, choice, y, fold) for choice in [ALL, *map(str, folds)]}


def _roles(held_out: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """For which choice, and for which fold's rows, a probe fitted without `held_out` may predict."""
    if len(held_out) == 1:
        yield ALL, held_out[0]
    else:
        yield str(held_out[0]), held_out[1]
        yield str(held_out[1]), held_out[0]


def _scores(model: RidgeClassifier, X: np.ndarray, classes: int) -> np.ndarray:
    """Decision values, float (n, classes)."""
    values = model.decision_function(X)
    if values.ndim == 1:
        return np.stack([-values, values], axis=1)
    scores = np.full((len(X), classes), values.min())
    scores[:, model[-1].classes_] = values
    return scores


def _auc(decisions: dict[tuple[str, int], np.ndarray], choice: str, y: np.ndarray, fold: np.ndarray) -> float:
    parts = [
        (y[fold == predicted], values) for (left_out, predicted), values in decisions.items() if left_out == choice
    ]
    return float(np.mean([METRICS["roc_auc"].score(truth, values) for truth, values in parts]))


def choose(
    ranking: pd.DataFrame, score: str, *, max_channels: int, max_multiply_adds: int | None
) -> list[tuple[str, str]]:
    """Take columns by falling score as long as the budget holds: channels in all, multiply-adds over the networks.

    A network's multiply-adds are those to its deepest column taken, since the shallower ones come with it.
    """
    taken: list[tuple[str, str]] = []
    channels, spent = 0, dict[str, int]()
    for row in ranking.sort_values([score, "bytes"], ascending=[False, True], kind="stable").to_dict("records"):
        backbone, column = str(row["backbone"]), str(row["column"])
        deeper = {**spent, backbone: max(spent.get(backbone, 0), int(row["multiply_adds"]))}
        fits = channels + row["channels"] <= max_channels
        if fits and (max_multiply_adds is None or sum(deeper.values()) <= max_multiply_adds):
            taken.append((backbone, column))
            channels, spent = channels + int(row["channels"]), deeper
    return taken
