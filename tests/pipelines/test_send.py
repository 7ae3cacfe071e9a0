"""A submission goes to Kaggle through the official package; its HTTP interface, and nothing else, is a stand-in."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from goulot.commands import send
from goulot.errors import SubmissionError
from tests import kaggle_server


class Kaggle:
    """What the stand-in has received, and what it is to answer."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[str] = []
        self.uploaded = b""
        self.submitted: dict[str, Any] = {}
        self.refusal: tuple[int, str] | None = None
        self.scored: dict[str, Any] = {"status": "COMPLETE", "publicScore": "0.941"}

    def answer(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(name)
        if self.refusal:
            return self.refusal[0], {"code": self.refusal[0], "message": self.refusal[1]}
        if name == "StartSubmissionUpload":
            return 200, {"token": "blob-token", "createUrl": f"{self.url}/upload"}
        if name == "CreateSubmission":
            self.submitted = body
            return 200, {"message": "Successfully submitted to Solar Cells", "ref": 77}
        if name == "ListSubmissions":
            return 200, {"submissions": [{"ref": 76, "status": "ERROR"}, {"ref": 77, **self.scored}]}
        return 404, {"code": 404, "message": f"no {name} here"}


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    stand_in = Kaggle()

    class Handler(kaggle_server.Answers, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            self.send_json(*stand_in.answer(self.path.rpartition("/")[2], body))

        def do_PUT(self) -> None:
            stand_in.uploaded = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_json(200, {})

    with kaggle_server.serving(Handler, monkeypatch) as stand_in.url:
        yield stand_in


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    monkeypatch.setenv("KAGGLE_USERNAME", "toy")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    monkeypatch.setattr(send, "POLL_S", 0.05)
    for folder in ("data/submit", "runs/bold-crow"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "submission.csv").write_text(f"id,label\n1,0.5\n# {folder}\n")
    (tmp_path / "params.yaml").write_text("fetch: {source: 'kaggle:solar-cells'}\n")
    return tmp_path


def test_the_submission_is_sent_whole_and_the_answer_shown(kaggle: Kaggle, checkout: Path) -> None:
    answer = send.run("bold-crow", message="first try")
    assert kaggle.uploaded == (checkout / "runs/bold-crow/submission.csv").read_bytes()
    assert kaggle.submitted["competitionName"] == "solar-cells"
    assert kaggle.submitted["submissionDescription"] == "first try"
    assert (answer.status, answer.public_score) == ("complete", "0.941")
    assert answer.lines()[0] == "solar-cells: Successfully submitted to Solar Cells (submission 77, complete)"


def test_without_a_run_it_is_the_checkouts_own(kaggle: Kaggle, checkout: Path) -> None:
    send.run(competition="other")
    assert kaggle.uploaded == (checkout / "data/submit/submission.csv").read_bytes()
    assert kaggle.submitted["competitionName"] == "other"


def test_why_a_submission_could_not_be_scored_is_told(kaggle: Kaggle) -> None:
    kaggle.scored = {"status": "ERROR", "errorDescription": "Submission must have 656 rows"}
    with pytest.raises(SubmissionError, match="could not score submission 77: Submission must have 656 rows"):
        send.run()


def test_one_that_is_still_being_scored_is_pending(kaggle: Kaggle) -> None:
    kaggle.scored = {"status": "PENDING"}
    assert send.run(wait_s=0.1).status == "pending"


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (401, "Unauthenticated", "does not accept the credentials"),
        (403, "You must accept this competition's rules", "accept the competition's rules on its page first"),
        (404, "Not found", "Kaggle knows no competition 'solar-cells'"),
        (400, "Daily limit reached", r"solar-cells refused the submission \(400\): Daily limit reached"),
    ],
)
def test_a_refusal_is_one_line_with_the_reason(kaggle: Kaggle, status: int, said: str, told: str) -> None:
    kaggle.refusal = (status, said)
    with pytest.raises(SubmissionError, match=told) as error:
        send.run()
    assert "\n" not in str(error.value)
    assert kaggle.uploaded == b""


def test_without_credentials_nothing_is_sent_and_the_fix_is_named(
    kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(SubmissionError, match="no Kaggle credentials.*KAGGLE_API_TOKEN"):
        send.run()
    assert kaggle.calls == []
    assert capsys.readouterr().out == ""


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaggle.api.kaggle_api_extended", None)
    with pytest.raises(SubmissionError, match=r"goulot\[kaggle\]"):
        send.run()


def test_a_run_that_is_not_there_and_a_source_that_is_not_kaggles_are_told(checkout: Path) -> None:
    with pytest.raises(SubmissionError, match="run 'old-crow' has no submission; runs/ has those of bold-crow"):
        send.run("old-crow")
    (checkout / "params.yaml").write_text("fetch: {source: 'sample:elpv'}\n")
    with pytest.raises(SubmissionError, match="no Kaggle competition; name one with --competition"):
        send.run()


def test_the_flow_shows_the_answer_or_what_is_missing(kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from pipelines import flows

    with prefect_test_harness(server_startup_timeout=90):
        assert flows.send(run="bold-crow") == "Successfully submitted to Solar Cells"
        monkeypatch.delenv("KAGGLE_KEY")
        state = flows.send(run="bold-crow", return_state=True)
        assert state.is_failed()
        assert str(state.message).startswith("no Kaggle credentials")
    assert kaggle.submitted["submissionDescription"] == "goulot bold-crow"
