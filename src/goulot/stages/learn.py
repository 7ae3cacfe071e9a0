"""`goulot learn <learner>`: a learner on the stacked features, cross-fitted on the one ledger."""

import logging
import shutil
import time
from collections.abc import Callable
from functools import partial

from pydantic import Field
from threadpoolctl import threadpool_limits

from goulot import crossfit, extra, features, fitting, layout, ledger, selection, tuning
from goulot.errors import ParamsError, choices
from goulot.learners import Factory, Learner, LearnerParams, find
from goulot.params import Section
from goulot.progress import track

log = logging.getLogger("goulot")


class Params(Section):
    """The learners, and what they have in common."""

    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1, le=256, description="fixed, since the last bits of a result depend on it")
    learners: dict[str, LearnerParams] = Field(
        min_length=1,
        description="the learners, by a name of yours",
        examples=[{"strict": {"kind": "logistic", "C": 0.0001}, "mlp": None}],
    )


def run(params: Params, learner: str) -> None:
    """Write `data/learn/<learner>/`: oof.parquet, test.parquet, metrics.json; of torch learners curve.csv as well."""
    if learner not in params.learners:
        raise ParamsError(choices("learner", learner, params.learners, "params.yaml defines"))
    found = find(f"learn.learners.{learner}", params.learners[learner].model_dump())
    folder = layout.learned(learner)
    shutil.rmtree(folder, ignore_errors=True)
    every, start = ledger.read(), time.monotonic()
    rows = every.by_image if found.means else every
    with threadpool_limits(params.threads):
        predictions = crossfit.cross_fit(
            _maker(found),
            rows,
            _inputs(found, every),
            folds=track(rows.folds, total=len(rows.folds), unit="folds", label=f"learn {learner}"),
            seed=params.seed,
            threads=params.threads,
            table=extra.read(rows.truth.images["image_id"]) if found.tabular else None,
            watch=True,
            alone=_alone(rows, every) if found.means else None,
        )
    scores = crossfit.write(folder, rows, predictions)
    log.info("learned %s in %.0f s: %s", learner, time.monotonic() - start, scores)


def _maker(learner: Learner) -> Factory:
    """What makes the estimators; features and settings are chosen inside the rows that they are fitted on."""
    makers = learner.makers
    if learner.share < 1:
        makers = {name: partial(selection.Selected, make, learner.share) for name, make in makers.items()}
    return partial(tuning.Tuned, makers) if len(makers) > 1 else next(iter(makers.values()))


def _inputs(learner: Learner, rows: ledger.Ledger) -> Callable[[int], fitting.Inputs]:
    """What the rows are in a fold: the features chosen without it, or the learner's own map."""
    if learner.map is None:
        known, choice = features.Features(rows.rows), features.read_choice(layout.CHOICE)
        read = known.means if learner.means else known.read
        return lambda fold: read(choice[str(fold)])
    backbone, tap = learner.map
    whole = features.Features(rows.rows).maps(backbone, f"{tap}.map")
    return lambda _fold: whole


def _alone(rows: ledger.Ledger, every: ledger.Ledger) -> Callable[[int], fitting.Inputs] | None:
    """What the images are in a fold without their other views; None where they have none."""
    if len(rows.rows) == len(every.rows):
        return None
    known, choice = features.Features(rows.rows), features.read_choice(layout.CHOICE)
    return lambda fold: known.read(choice[str(fold)])
