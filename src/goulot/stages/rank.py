"""`goulot rank`: which backbone and depth transfers best, at what cost, and what the learners will stack."""

import logging
import shutil

import pandas as pd
from pydantic import Field
from threadpoolctl import threadpool_limits

from goulot import features, layout, ranking, truth
from goulot.artifacts import sweep, write_json, write_table
from goulot.errors import ParamsError, choices
from goulot.params import Section, members
from goulot.progress import track
from goulot.targets import Target

log = logging.getLogger("goulot")

SHOWN = ["backbone", "column", "score", "knn", "logme", "redundancy", "chosen", "channels", "bytes", "multiply_adds"]


class Params(Section):
    """The probe and the budget of the stack."""

    alpha: float = Field(300.0, gt=0, description="ridge penalty of the probe, on standardised features")
    max_channels: int = Field(4000, ge=1, description="width of the stacked features, in channels")
    columns: list[str] | None = Field(
        None, description="what to stack, by hand, e.g. [lite0/s4.avg, lite0/head]; empty means as ranked"
    )
    max_bytes: int | None = Field(None, ge=1, description="of the stack, an image and view; empty means no limit")
    max_multiply_adds: int | None = Field(None, ge=1, description="largest sum over the networks; empty means no limit")
    threads: int = Field(2, ge=1, le=256, description="fixed, since the last bits of a result depend on it")

    @property
    def budget(self) -> ranking.Budget:
        """The three limits."""
        return ranking.Budget(self.max_channels, self.max_bytes, self.max_multiply_adds)


def run(params: Params) -> None:
    """Write ranking.csv (costs and scores of each column), choice.json (columns for each fold and for all), metrics."""
    shutil.rmtree(layout.RANK, ignore_errors=True)
    known = truth.read().train
    reader = features.Features(known.images.assign(view=0))
    backbones = members("extract", "backbones")
    sweep(layout.EXTRACT, backbones)
    columns = features.available(backbones)
    if columns.empty:
        raise ParamsError("no network of extract.backbones keeps a vector; give one of them taps, or leave taps out")
    pairs = list(zip(columns["backbone"], columns["column"], strict=True))
    scores, others, sketches = [], [], []
    with threadpool_limits(params.threads):
        for pair in track(pairs, total=len(pairs), unit="columns", label="rank"):
            X = reader.read([pair])
            scores.append(ranking.probe(X, known.y, known.fold, known.target, alpha=params.alpha))
            others.append(ranking.beside(X, known.y, known.fold, known.target))
            sketches.append(ranking.sketch(X))
        table = columns.join(pd.DataFrame(scores)).join(pd.DataFrame(others))
        table["redundancy"] = ranking.redundancy(sketches, table[ranking.ALL].tolist())
    choice = _chosen(params, table, list(scores[0]))
    if not all(choice.values()):
        raise ParamsError(
            "no column fits into rank.max_channels, rank.max_bytes and rank.max_multiply_adds; the smallest has "
            f"{columns['channels'].min()} channels, {columns['bytes'].min():,} bytes and "
            f"{columns['multiply_adds'].min():,} multiply-adds"
        )
    chosen = [pair in choice[ranking.ALL] for pair in pairs]
    table = table.assign(chosen=chosen).rename(columns={ranking.ALL: "score"})
    table = table.sort_values("score", ascending=False, kind="stable")
    write_table(layout.RANKING, table[SHOWN])
    write_json(layout.CHOICE, choice)
    agreement = ranking.agreement(table)
    write_json(layout.metrics(layout.RANK), {
        "columns": len(pairs), "chosen": sum(chosen), "channels": int(columns["channels"][chosen].sum()),
        "best_probe_score": float(table.iloc[0]["score"]), "agreement": agreement,
    })  # fmt: skip
    _say(table, known.target, agreement)


def _say(table: pd.DataFrame, target: Target, agreement: dict[str, float]) -> None:
    best, stacked = table.iloc[0], table[table["chosen"]]
    log.info(
        "ranked %d columns, best %s %s (%s %.3f); stacked are %d columns, %s channels",
        len(table),
        best["backbone"],
        best["column"],
        ranking.scored_by(target),
        best["score"],
        len(stacked),
        f"{stacked['channels'].sum():,}",
    )
    log.info(
        "the probe's order agrees with that by %s (Kendall's tau)",
        ", ".join(f"{name} to {tau:.2f}" for name, tau in agreement.items()),
    )


def _chosen(params: Params, table: pd.DataFrame, names: list[str]) -> dict[str, list[tuple[str, str]]]:
    """The columns to stack for each fold and for all: those named by hand, else the best within the budget."""
    if not params.columns:
        return {name: ranking.choose(table, name, params.budget) for name in names}
    known = {f"{b}/{c}": (str(b), str(c)) for b, c in zip(table["backbone"], table["column"], strict=True)}
    for column in params.columns:
        if column not in known:
            raise ParamsError(choices("column", column, known, "rank.columns may hold"))
    return {name: [known[column] for column in dict.fromkeys(params.columns)] for name in names}
