"""`goulot submit`: the CSV, exactly as sample_submission.csv wants it."""

import logging
import shutil
from typing import Literal

from pydantic import Field

from goulot import layout, submission, targets
from goulot.artifacts import read_table, write_table
from goulot.params import Section

log = logging.getLogger("goulot")


class Params(Section):
    """How predictions are written."""

    format: Literal["auto", "probability", "label", "columns"] = Field(
        "auto", description="auto reads it off sample_submission.csv; columns is one probability a class"
    )


def run(params: Params) -> None:
    """Write submission.csv, or nothing at all where it would be refused."""
    shutil.rmtree(layout.SUBMIT, ignore_errors=True)
    target = targets.read()
    sample = submission.read_sample(layout.SAMPLE_SUBMISSION)
    ids = read_table(layout.MANIFEST)[["image_id", "id"]]
    predictions = read_table(layout.BLEND_TEST).merge(ids, on="image_id", validate="one_to_one")
    predictions = predictions.rename(columns=dict(zip(target.outputs, target.names, strict=True)))
    form = submission.detect(sample, target.names) if params.format == "auto" else params.format
    filled = submission.fill(sample, predictions, target.names, form)
    write_table(layout.SUBMISSION, filled)
    log.info("wrote %s: %s rows, %s", layout.SUBMISSION, f"{len(filled):,}", form)
