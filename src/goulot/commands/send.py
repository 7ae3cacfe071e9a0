"""`goulot send`: send a finished run's submission to Kaggle and show what the competition answers.

Nothing else in goulot sends anything. The official `kaggle` package does the talking.
"""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from goulot import kaggle_client, layout, params
from goulot.errors import SubmissionError

log = logging.getLogger("goulot")

RUNS = Path("runs")
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the competition says of a submission; the scores are empty while it is being scored."""

    competition: str
    file: str
    ref: int
    message: str
    status: str = "pending"
    public_score: str = ""
    private_score: str = ""

    def row(self) -> dict[str, Any]:
        """The answer as one row of a table."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The answer in words."""
        told = [f"{self.competition}: {self.message} (submission {self.ref}, {self.status})"]
        if self.public_score:
            told.append(f"public score {self.public_score}")
        if self.private_score:
            told.append(f"private score {self.private_score}")
        return told


def run(
    run: str | None = None,
    *,
    message: str | None = None,
    competition: str | None = None,
    wait_s: float = 60.0,
) -> Answer:
    """Send the submission of `runs/<run>`, by default that of `data/submit`; wait a while for its score.

    Raises SubmissionError if there is no such submission, no credentials, or if the competition refuses it.
    """
    file = submission_of(run)
    slug = competition or _competition()
    text = message or f"goulot {run or 'data/submit'}"
    with kaggle_client.speaking(slug, "the submission", SubmissionError):
        api = kaggle_client.client(SubmissionError)
        log.info("sending %s (%s bytes) to %s", file, f"{file.stat().st_size:,}", slug)
        sent = api.competition_submit(str(file), text, slug, quiet=True)
        if sent.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE:
            raise SubmissionError(f"Kaggle did not take the upload of {file}; try again later")
        return _scored(api, Answer(slug, str(file), sent.ref, sent.message), wait_s)


def submission_of(run: str | None) -> Path:
    """The submission of a run in `runs/`, or that of the checkout."""
    file = layout.SUBMISSION if run is None else RUNS / run / layout.SUBMISSION.name
    if file.is_file():
        return file
    if run is None:
        raise SubmissionError(f"there is no {file}; run `dvc repro submit` first, or name a run in {RUNS}/")
    known = sorted(path.parent.name for path in RUNS.glob(f"*/{layout.SUBMISSION.name}"))
    raise SubmissionError(f"run {run!r} has no submission; {RUNS}/ has those of {', '.join(known) or 'no run'}")


def _competition() -> str:
    """The competition that `params.yaml` fetches."""
    source = str(params.read().get("fetch", {}).get("source", ""))
    kind, _, slug = source.partition(":")
    if kind != "kaggle" or not slug:
        raise SubmissionError(
            f"fetch.source is {source!r}, which is no Kaggle competition; name one with --competition"
        )
    return slug


def _scored(api: Any, answer: Answer, wait_s: float) -> Answer:
    """Ask for the submission until it is scored or the time is up."""
    until = time.monotonic() + wait_s
    while True:
        listed = api.competition_submissions(answer.competition) or []
        found = next((item for item in listed if item is not None and item.ref == answer.ref), None)
        if found is not None and found.status.name == "ERROR":
            raise SubmissionError(
                f"{answer.competition} could not score submission {answer.ref}: "
                f"{found.error_description or 'no reason given'}"
            )
        if found is not None and found.status.name == "COMPLETE":
            scores = (str(found.public_score or ""), str(found.private_score or ""))
            return Answer(answer.competition, answer.file, answer.ref, answer.message, "complete", *scores)
        if time.monotonic() >= until:
            return answer
        time.sleep(POLL_S)
