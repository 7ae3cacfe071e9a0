"""`goulot blend`: the learners' predictions blended, scored by nested cross-validation."""

import logging
import shutil

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from goulot import blending, layout, metrics, truth
from goulot.artifacts import read_table, sweep, write_json, write_table
from goulot.errors import LedgerError
from goulot.params import Section, members

log = logging.getLogger("goulot")


class Params(Section):
    """What the blend is chosen by."""

    metric: str = Field("log_loss", description="one of " + ", ".join(metrics.METRICS))
    rounds: int = Field(30, ge=1, le=1000, description="members taken, with replacement")

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        metrics.find(name)
        return name


def run(params: Params) -> None:
    """Write oof.parquet, test.parquet, weights.json, leaderboard.csv, metrics and the points of the plots."""
    shutil.rmtree(layout.BLEND, ignore_errors=True)
    metric = metrics.find(params.metric)
    names = members("learn", "learners")
    sweep(layout.LEARN, names)
    oofs = [read_table(layout.learned(name) / "oof.parquet") for name in names]
    tests = [read_table(layout.learned(name) / "test.parquet") for name in names]
    known = truth.read().train
    y, fold, outputs = known.y, known.fold, known.target.outputs
    stack = _aligned(oofs, known.images["image_id"], outputs)
    result = blending.nested(stack, names, y, fold, metric, rounds=params.rounds)
    weights = blending.select(stack, y, metric, rounds=params.rounds)
    test = tests[0][["image_id"]]
    blended = blending.combine(_aligned(tests, test["image_id"], outputs), weights)
    write_table(
        layout.BLEND_OOF,
        pd.concat([known.images[["image_id", "fold"]], pd.DataFrame(result.oof, columns=outputs)], axis=1),
    )
    write_table(layout.BLEND_TEST, pd.concat([test, pd.DataFrame(blended, columns=outputs)], axis=1))
    write_json(
        layout.BLEND_WEIGHTS,
        {"all": dict(zip(names, weights.tolist(), strict=True)), "folds": result.members},
    )
    board = _leaderboard(names, stack, weights, result, y)
    write_table(layout.LEADERBOARD, board)
    write_json(layout.metrics(layout.BLEND), _metrics(board, blending.combine(stack, weights), y, params.metric))
    _write_plots(result.oof, y, known.target.names)
    log.info(
        "blended %s: %s %.4f by nested cross-validation",
        ", ".join(f"{w:.2f} {n}" for n, w in zip(names, weights, strict=True) if w),
        metric.title,
        metric.score(y, result.oof),
    )


def _aligned(tables: list[pd.DataFrame], ids: "pd.Series[str]", outputs: list[str]) -> np.ndarray:
    """The tables' predictions in the order of the ids, float (tables, ids, outputs)."""
    for table in tables:
        if set(table["image_id"]) != set(ids) or len(table) != len(ids):
            raise LedgerError("a learner's predictions are not for the images of the ledger; dvc repro learn")
    return np.stack([table.set_index("image_id")[outputs].loc[ids.to_list()].to_numpy() for table in tables])


def _leaderboard(
    names: list[str], stack: np.ndarray, weights: np.ndarray, result: blending.Nested, y: np.ndarray
) -> pd.DataFrame:
    """A row a learner and one for the blend: all metrics, their spread over folds is in the report."""
    rows = [{"learner": "blend", "weight": 1.0, **metrics.every(y, result.oof)}]
    rows += [{"learner": n, "weight": w, **metrics.every(y, p)} for n, w, p in zip(names, weights, stack, strict=True)]
    return pd.DataFrame(rows)


def _metrics(board: pd.DataFrame, in_sample: np.ndarray, y: np.ndarray, metric: str) -> dict[str, object]:
    """The scores of all, and how much better the blend looks on the rows its weights were chosen on."""
    scores = {str(row.pop("learner")): row for row in board.to_dict("records")}
    optimism = scores["blend"][metric] - metrics.find(metric).score(y, in_sample)
    return {**scores, "optimism": float(abs(optimism))}


def _write_plots(p: np.ndarray, y: np.ndarray, classes: list[str]) -> None:
    """Points for `dvc plots`: actual against predicted label, and the last class's probability against the truth."""
    labels = np.array(classes)
    write_table(layout.BLEND / "confusion.csv", pd.DataFrame({"actual": labels[y], "predicted": labels[p.argmax(1)]}))
    bins = np.clip((p[:, -1] * 10).astype(int), 0, 9)
    table = pd.DataFrame({"predicted": p[:, -1], "actual": y == len(classes) - 1}).groupby(bins).mean()
    write_table(layout.BLEND / "calibration.csv", table)
