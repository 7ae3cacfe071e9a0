"""Which columns are worth stacking: a linear probe of each, and a greedy choice under a budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, rankdata
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from goulot import transferability
from goulot.metrics import METRICS
from goulot.targets import Target

ALL = "all"
ROWS, ALIGNED_ROWS = 2000, 500  # measures beside the probe need not see more, and take the square or cube of them


def scored_by(target: Target) -> str:
    """The title of the probe's score: for what has an order, how well the probe keeps it."""
    return "rank correlation" if target.task in ("ordinal", "regression") else METRICS["roc_auc"].title


def probe(X: np.ndarray, y: np.ndarray, fold: np.ndarray, target: Target, *, alpha: float) -> dict[str, float]:
    """Cross-validated score of a ridge probe, for all rows ("all") and for each fold from the other folds' rows.

    The score of fold f's choice never sees f: its probes are fitted on the rows outside f and g and predict g. One such
    fit serves the choices of both f and g. X is float32 (n, channels), y the truth (n,) or (n, names), fold int (n,).
    """
    folds = np.unique(fold)
    values: dict[tuple[str, int], np.ndarray] = {}
    for held_out in [*((f,) for f in folds), *combinations(folds, 2)]:
        inside = ~np.isin(fold, held_out)
        model = _fitted(X[inside], y[inside], target, alpha)
        for left_out, predicted in _roles(held_out):
            values[left_out, predicted] = _values(model, X[fold == predicted], target)
    return {choice: _score(values, choice, y, fold, target) for choice in [ALL, *map(str, folds)]}


def beside(X: np.ndarray, y: np.ndarray, fold: np.ndarray, target: Target) -> dict[str, float]:
    """What other measures say of a column, from at most 2,000 rows: `knn` and `logme`.

    `knn` is the accuracy where there are classes, else scored as the probe is.
    """
    rows = spread(len(X), ROWS)
    X, y, fold = X[rows], y[rows], fold[rows]
    truth = np.eye(len(target.names))[y] if target.task in ("binary", "multiclass") else y.reshape(len(y), -1)
    found = transferability.neighbours(X, truth.astype(float), fold)
    if target.task in ("binary", "multiclass"):
        knn = float((found.argmax(axis=1) == y).mean())
    else:
        knn = _score({(ALL, int(f)): found[fold == f] for f in np.unique(fold)}, ALL, y, fold, target)
    return {"knn": knn, "logme": transferability.logme(X, truth.astype(float))}


def redundancy(grams: Sequence[np.ndarray], score: Sequence[float]) -> list[float]:
    """Of each column, how much one with a better score says the same: the largest centred kernel alignment, 0 to 1."""
    order = np.argsort([-value for value in score], kind="stable")
    found = np.zeros(len(grams))
    for place, number in enumerate(order):
        found[number] = max((transferability.alignment(grams[number], grams[b]) for b in order[:place]), default=0.0)
    return found.tolist()


def sketch(X: np.ndarray) -> np.ndarray:
    """What `redundancy` compares, from at most 500 rows."""
    return transferability.gram(X[spread(len(X), ALIGNED_ROWS)])


def agreement(table: pd.DataFrame) -> dict[str, float]:
    """Kendall's rank correlation of the probe's score with the other measures, and with the plain order by size."""
    others = {"knn": "knn", "logme": "logme", "size": "multiply_adds"}
    taus = {name: float(kendalltau(table["score"], table[column]).statistic) for name, column in others.items()}
    return {name: tau if np.isfinite(tau) else 0.0 for name, tau in taus.items()}


def spread(count: int, most: int) -> np.ndarray:
    """Row numbers, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _roles(held_out: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """For which choice, and for which fold's rows, a probe fitted without `held_out` may predict."""
    if len(held_out) == 1:
        yield ALL, held_out[0]
    else:
        yield str(held_out[0]), held_out[1]
        yield str(held_out[1]), held_out[0]


def _fitted(X: np.ndarray, y: np.ndarray, target: Target, alpha: float) -> Pipeline | None:
    """A classifier of classes, else a regression on grades, labels or numbers; None where there is but one class."""
    if target.task not in ("binary", "multiclass"):
        return make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(X, y.astype(float))
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha)).fit(X, y) if np.ptp(y) else None


def _values(model: Pipeline | None, X: np.ndarray, target: Target) -> np.ndarray:
    """Decision values, float (n, classes), or predictions (n, 1) of grades and (n, names) of labels or numbers."""
    classes = len(target.names)
    if model is None:
        return np.zeros((len(X), classes))
    if target.task not in ("binary", "multiclass"):
        return np.asarray(model.predict(X)).reshape(len(X), -1)
    values = model.decision_function(X)
    if values.ndim == 1:
        values = np.stack([-values, values], axis=1)
    scores = np.full((len(X), classes), values.min())
    scores[:, model[-1].classes_] = values
    return scores


def _score(
    values: dict[tuple[str, int], np.ndarray], choice: str, y: np.ndarray, fold: np.ndarray, target: Target
) -> float:
    """Mean over the folds that define the score; 0 where none does."""
    ordered = target.task in ("ordinal", "regression")
    judge = _rank_correlation if ordered else METRICS["roc_auc"].score
    parts = [judge(y[fold == predicted], p) for (left_out, predicted), p in values.items() if left_out == choice]
    known = [part for part in parts if np.isfinite(part)]
    return float(np.mean(known)) if known else 0.0


def _rank_correlation(y: np.ndarray, p: np.ndarray) -> float:
    """Spearman's, mean over the columns that vary."""
    a, b = (rankdata(v, axis=0) - (len(v) + 1) / 2 for v in (y.reshape(len(y), -1), p))
    spread = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    varies = spread > 0
    return float(((a * b).sum(axis=0)[varies] / spread[varies]).mean()) if varies.any() else float("nan")


@dataclass(frozen=True)
class Budget:
    """What the stack may take of an image's view: channels, bytes, and multiply-adds over the networks. None: any."""

    channels: int
    bytes: int | None = None
    multiply_adds: int | None = None

    def holds(self, channels: int, size: int, multiply_adds: int) -> bool:
        """Whether so much may be taken in all."""
        pairs = ((channels, self.channels), (size, self.bytes), (multiply_adds, self.multiply_adds))
        return all(most is None or much <= most for much, most in pairs)


def choose(ranking: pd.DataFrame, score: str, budget: Budget) -> list[tuple[str, str]]:
    """Take columns by falling score as long as the budget holds; one that is too large is passed over.

    A network's multiply-adds are those to its deepest column taken, since the shallower ones come with it.
    """
    taken: list[tuple[str, str]] = []
    channels, size, spent = 0, 0, dict[str, int]()
    for row in ranking.sort_values([score, "bytes"], ascending=[False, True], kind="stable").to_dict("records"):
        backbone, column = str(row["backbone"]), str(row["column"])
        deeper = {**spent, backbone: max(spent.get(backbone, 0), int(row["multiply_adds"]))}
        wider, larger = channels + int(row["channels"]), size + int(row["bytes"])
        if budget.holds(wider, larger, sum(deeper.values())):
            taken.append((backbone, column))
            channels, size, spent = wider, larger, deeper
    return taken
