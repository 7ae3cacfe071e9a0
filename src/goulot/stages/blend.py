"""`goulot blend`: the learners' predictions blended, scored by nested cross-validation."""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits

from goulot import blending, decisions, layout, metrics, truth
from goulot.artifacts import read_table, sweep, write_json, write_table
from goulot.errors import LedgerError
from goulot.metrics import Metric
from goulot.params import members
from goulot.truth import Truth

log = logging.getLogger("goulot")


class Params(blending.Recipe):
    """What the blend is chosen by, and how it is made."""

    metric: str = Field(
        "auto",
        description="what the blend is chosen by; auto depends on the task",
        json_schema_extra={"enum": ["auto", *metrics.METRICS]},
    )

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        if name != "auto":
            metrics.find(name)
        return name


def run(params: Params) -> None:
    """Write the blended predictions, the weights and the rule, the leaderboard, metrics and the points of the plots."""
    shutil.rmtree(layout.BLEND, ignore_errors=True)
    folders = _folders()
    names = list(folders)
    oofs, tests = ([read_table(path / f"{part}.parquet") for path in folders.values()] for part in ("oof", "test"))
    everything = truth.read()
    known, test = everything.train, everything.images.query("split == 'test'")[["image_id"]].reset_index(drop=True)
    target, outputs = known.target, known.target.outputs
    metric = metrics.of(params.metric, target)
    stack = _aligned(oofs, known.images["image_id"], outputs)
    aim = blending.Aim(metric, target, params)
    with threadpool_limits(params.threads):
        result = blending.nested(stack, known.y, known.fold, aim)
        blend = blending.fit(stack, known.y, known.fold, aim)
    blended = blend.of(_aligned(tests, test["image_id"], outputs))
    write_table(
        layout.BLEND_OOF,
        pd.concat([known.images[["image_id", "fold"]], pd.DataFrame(result.oof, columns=outputs)], axis=1),
    )
    write_table(layout.BLEND_TEST, pd.concat([test, pd.DataFrame(blended, columns=outputs)], axis=1))
    write_json(layout.BLEND_WEIGHTS, _weights(names, blend, result))
    write_json(layout.BLEND_RULE, {"metric": metric.name, **asdict(blend.rule)})
    board = _leaderboard(known, metric, dict(zip(names, blend.weights.tolist(), strict=True)), stack, result)
    write_table(layout.LEADERBOARD, board)
    nested, fitted = result.score(metric, known.y), decisions.score(metric, known.y, blend.of(stack), blend.rule)
    write_json(layout.metrics(layout.BLEND), _metrics(board, blend, metric, _optimism(metric, nested, fitted)))
    _write_plots(known, result)
    _say(names, blend, metric, nested, fitted)


def _weights(names: list[str], blend: blending.Blend, result: blending.Nested) -> dict[str, object]:
    """The methods and, but for stackers, the members' weights: of all rows, and of those outside each fold."""

    def named(weights: np.ndarray) -> dict[str, float] | None:
        return None if np.isnan(weights).any() else dict(zip(names, weights.tolist(), strict=True))

    folds = [
        {"method": method, "weights": named(weights)}
        for method, weights in zip(result.methods, result.members, strict=True)
    ]
    return {"method": blend.method, "all": named(blend.weights), "folds": folds}


def _say(names: list[str], blend: blending.Blend, metric: Metric, nested: float, fitted: float) -> None:
    if scores := _rivals(blend, metric):
        rivals = ", ".join(f"{method} {value:.4f}" for method, value in scores.items())
        log.info("ways to blend by cross-validated %s: %s", metric.title, rivals)
        log.info("%s is taken, the simplest within a standard error of the best", blend.method)
    weights = zip(names, blend.weights.tolist(), strict=True)
    taken = ", ".join(f"{weight:.2f} {name}" for name, weight in weights if weight > 0) or f"by {blend.method}"
    if idle := [name for name, weight in zip(names, blend.weights.tolist(), strict=True) if weight == 0]:
        taken += f" (without {', '.join(idle)}, which added nothing)"
    log.info("blended %s: %s %.4f by nested cross-validation", taken, metric.title, nested)
    if (gap := _optimism(metric, nested, fitted)) is not None:
        log.info("on the rows that it was chosen on it would be %.4f, better by %.4f: its optimism", fitted, gap)


def _folders() -> dict[str, Path]:
    """What is blended, by its name on the leaderboard: learners, and networks by the names of their stages."""
    learners, networks = members("learn", "learners"), members("finetune", "networks", least=0)
    sweep(layout.LEARN, learners)
    sweep(layout.FINETUNE, networks)
    return {name: layout.learned(name) for name in learners} | {
        f"finetune@{name}": layout.finetuned(name) for name in networks
    }


def _aligned(tables: list[pd.DataFrame], ids: "pd.Series[str]", outputs: list[str]) -> np.ndarray:
    """The tables' predictions in the order of the ids, float (tables, ids, outputs)."""
    for table in tables:
        if set(table["image_id"]) != set(ids) or len(table) != len(ids):
            raise LedgerError("a learner's predictions are not for the images of the ledger; dvc repro learn")
    return np.stack([table.set_index("image_id")[outputs].loc[ids.to_list()].to_numpy() for table in tables])


def _leaderboard(
    known: Truth, metric: Metric, weights: dict[str, float], stack: np.ndarray, result: blending.Nested
) -> pd.DataFrame:
    """A row a learner and one for the blend: the metric itself, by rules tuned out of fold, and what else is shown."""
    own = [result.score(metric, known.y)]
    own += [decisions.crossed(metric, known.target, known.y, p, known.fold) for p in stack]
    rows = [{"learner": "blend", "weight": 1.0, **decisions.every(known.y, result.oof, known.target)}]
    rows += [
        {"learner": name, "weight": weight, **decisions.every(known.y, p, known.target)}
        for (name, weight), p in zip(weights.items(), stack, strict=True)
    ]
    return pd.DataFrame([{**row, metric.name: value} for row, value in zip(rows, own, strict=True)])


def _optimism(metric: Metric, nested: float, fitted: float) -> float | None:
    """How much better the blend looks on the rows that it was chosen on; less than 0 where it looks worse there."""
    gap = fitted - nested if metric.greater_is_better else nested - fitted
    return gap if np.isfinite(gap) else None


def _metrics(
    board: pd.DataFrame, blend: blending.Blend, metric: Metric, optimism: float | None
) -> dict[str, object]:  # fmt: skip
    """The scores of all, and the blend's optimism."""
    scores = {
        str(row.pop("learner")): {name: value for name, value in row.items() if np.isfinite(value)}
        for row in board.to_dict("records")
    }
    return {**scores, "rivals": _rivals(blend, metric), "optimism": optimism}


def _rivals(blend: blending.Blend, metric: Metric) -> dict[str, float]:
    """The score of every method that was tried."""
    sign = -1 if metric.greater_is_better else 1
    return {method: sign * loss for method, loss in blend.losses.items() if np.isfinite(loss)}


def _by_label(known: Truth, result: blending.Nested) -> pd.DataFrame:
    """A row a label: images that have it, ROC AUC and F1 out of fold."""
    auc, f1 = metrics.METRICS["roc_auc"], metrics.METRICS["f1_macro"]
    columns = zip(known.target.names, known.y.T, result.oof.T, result.guesses.T, strict=True)
    return pd.DataFrame(
        [(name, int(y.sum()), auc.score(y[:, None], p[:, None]), f1.score(np.c_[y, y], np.c_[guess, guess]))
         for name, y, p, guess in columns],
        columns=["label", "images", "roc_auc", "f1"],
    )  # fmt: skip


def _write_plots(known: Truth, result: blending.Nested) -> None:
    """Points for `dvc plots`: actual against decided classes, and tenths of the predictions against the truth.

    The calibration is that of the last class, of all labels together, or of all numbers together.
    """
    y, p, target = known.y, result.oof, known.target
    confusion = pd.DataFrame(columns=["actual", "predicted"])  # DVC wants the file of labels and numbers as well
    if target.exclusive:
        labels = np.array(target.names)
        confusion = pd.DataFrame({"actual": labels[y], "predicted": labels[result.guesses]})
        y, p = y == len(target.names) - 1, p[:, -1]
    write_table(layout.CONFUSION, confusion)
    if target.task == "multilabel":
        write_table(layout.BLEND_LABELS, _by_label(known, result))
    low, high = (p.min(), p.max()) if target.task == "regression" else (0.0, 1.0)
    bins = np.clip(((p - low) / (high - low or 1.0) * 10).astype(int), 0, 9).ravel()
    table = pd.DataFrame({"predicted": p.ravel(), "actual": y.ravel()}).groupby(bins).mean()
    write_table(layout.BLEND / "calibration.csv", table)
