"""`goulot check-submission`: what a competition would refuse in a submission, row by row."""

from collections.abc import Iterator
from pathlib import Path

from goulot import faults, layout, metrics, params, submission, targets
from goulot.errors import SubmissionError
from goulot.metrics import Metric
from goulot.stages import blend, submit
from goulot.submission import Form
from goulot.targets import Target


def run(path: Path, *, limit: int) -> Iterator[str]:
    """Lines that say what is wrong; raises SubmissionError after the last of them, or ends with a word of praise."""
    sample = submission.read_sample(layout.SAMPLE_SUBMISSION)
    target, form, _ = expected()
    rows = faults.read(path)
    found = faults.find(rows, sample, target, form)
    yield from found[:limit]
    if len(found) > limit:
        yield f"... and {len(found) - limit} more"
    if found:
        raise SubmissionError(f"{path} would be refused: {len(found)} fault(s)")
    yield f"{path} is as sample_submission.csv wants it: {len(rows) - 1:,} rows, {form.kind}"


def expected() -> tuple[Target, Form, Metric]:
    """What a submission to this competition must look like, by params.yaml and the sample."""
    sample, target = submission.read_sample(layout.SAMPLE_SUBMISSION), targets.read()
    metric = metrics.of(params.load("blend", blend.Params).metric, target)
    wished = params.load("submit", submit.Params)
    kind = submission.detect(sample, target, metric) if wished.format == "auto" else wished.format
    return target, submission.form(sample, target, metric, kind), metric
