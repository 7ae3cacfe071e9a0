"""`goulot learn <learner>`: a learner on the stacked features, cross-fitted on the one ledger."""

import logging
import shutil
import time
from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, Field
from threadpoolctl import threadpool_limits

from goulot import crossfit, extra, features, layout, ledger
from goulot.errors import ParamsError, choices
from goulot.learners import Learner, find
from goulot.params import Section
from goulot.progress import track

log = logging.getLogger("goulot")


class LearnerParams(Section):
    """A learner's kind and the settings of that kind, which its own module checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(description="the learner's module")

    def settings(self) -> dict[str, Any]:
        """All of it as a plain dict."""
        return self.model_dump()


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
    """Write `data/learn/<learner>/`: oof.parquet, test.parquet and metrics.json."""
    if learner not in params.learners:
        raise ParamsError(choices("learner", learner, params.learners, "params.yaml defines"))
    found = find(f"learn.learners.{learner}", params.learners[learner].settings())
    folder = layout.learned(learner)
    shutil.rmtree(folder, ignore_errors=True)
    rows, start = ledger.read(), time.monotonic()
    with threadpool_limits(params.threads):
        predictions = crossfit.cross_fit(
            found.make,
            rows,
            _inputs(found, rows),
            folds=track(rows.folds, total=len(rows.folds), unit="folds", label=f"learn {learner}"),
            seed=params.seed,
            threads=params.threads,
            table=extra.read(rows.truth.images["image_id"]) if found.tabular else None,
        )
    scores = crossfit.write(folder, rows, predictions)
    log.info("learned %s in %.0f s: %s", learner, time.monotonic() - start, scores)


def _inputs(learner: Learner, rows: ledger.Ledger) -> Callable[[int], crossfit.Inputs]:
    """What the rows are in a fold: the features chosen without it, or the learner's own map."""
    known = features.Features(rows.rows)
    if learner.map is None:
        choice = features.read_choice(layout.CHOICE)
        return lambda fold: known.read(choice[str(fold)])
    backbone, tap = learner.map
    whole = known.maps(backbone, f"{tap}.map")
    return lambda _fold: whole
