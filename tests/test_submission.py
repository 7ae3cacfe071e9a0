"""A submission that the competition would refuse is not written; one that it takes has its ids, order and form."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from goulot import layout
from goulot.artifacts import read_table, write_table
from goulot.errors import SubmissionError
from goulot.submission import detect, fill, read_sample
from tests import tiny
from tests.tiny import Workspace

CLASSES = ["bad", "good"]
PREDICTED = pd.DataFrame({"id": ["1", "2", "3"], "bad": [0.2, 0.9, 0.5], "good": [0.8, 0.1, 0.5]})


def sample(*cells: str, ids: str = "312", column: str = "target") -> pd.DataFrame:
    return pd.DataFrame({"Id": list(ids), column: cells or ["0.5"] * len(ids)})


def test_the_form_is_misread() -> None:
    assert detect(sample("0.5", "0", "1"), CLASSES) == "probability"
    assert detect(sample("0", "0", "0"), ["0", "1"]) == "probability"
    assert detect(sample("0", "1", "0"), ["0", "1"]) == "label"
    assert detect(sample("good", "good", "good"), CLASSES) == "label"
    assert detect(sample("2", "2", "2"), ["1", "2", "3"]) == "label"
    assert detect(pd.DataFrame({"id": ["1"], "good": ["0"], "bad": ["0"]}), CLASSES) == "columns"
    with pytest.raises(SubmissionError, match=r"fit none of the classes.*set submit.format"):
        detect(sample("x", "y", "z"), CLASSES)
    with pytest.raises(SubmissionError, match="fit none"):
        detect(sample("0.5", "0.5", "0.5"), ["a", "b", "c"])


def test_the_sample_s_order_or_columns_are_lost() -> None:
    filled = fill(sample(), PREDICTED, CLASSES, "probability")
    assert filled.columns.tolist() == ["Id", "target"]
    assert filled.to_numpy().tolist() == [["3", 0.5], ["1", 0.8], ["2", 0.1]]
    assert fill(sample(), PREDICTED, CLASSES, "label")["target"].tolist()[1:] == ["good", "bad"]
    wide = pd.DataFrame({"Id": list("312"), "good": "0", "bad": "0"})
    assert fill(wide, PREDICTED, CLASSES, "columns").to_numpy().tolist()[1] == ["1", 0.8, 0.2]


@pytest.mark.parametrize(
    ("wanted", "given", "words"),
    [
        ("3124", PREDICTED, "1 ids of sample_submission.csv have no prediction, first '4'"),
        ("31", PREDICTED, "1 predictions are for ids that sample_submission.csv lacks, first '2'"),
        ("3122", PREDICTED, "id '2' occurs twice in sample_submission.csv"),
        ("312", pd.concat([PREDICTED, PREDICTED.head(1)]), "id '1' occurs twice in the predictions"),
        ("312", PREDICTED.assign(good=[0.1, np.nan, 0.2]), "the prediction for id '2' is not finite"),
        ("312", PREDICTED.assign(good=[np.inf, 0.1, 0.2]), "the prediction for id '1' is not finite"),
    ],
)
def test_ids_or_values_that_do_not_fit_are_written(wanted: str, given: pd.DataFrame, words: str) -> None:
    with pytest.raises(SubmissionError, match=words):
        fill(sample(ids=wanted), given, CLASSES, "probability")


def test_a_form_that_the_sample_cannot_hold_gives_a_traceback() -> None:
    with pytest.raises(SubmissionError):
        fill(sample(), PREDICTED, CLASSES, "columns")


def test_a_sample_that_is_none_gives_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="is missing"):
        read_sample(tmp_path / "sample_submission.csv")
    (tmp_path / "sample_submission.csv").write_text("id\n1\n")
    with pytest.raises(SubmissionError, match="at least one target"):
        read_sample(tmp_path / "sample_submission.csv")


def test_an_empty_sample_gives_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "sample_submission.csv").write_bytes(b"")
    with pytest.raises(SubmissionError):
        read_sample(tmp_path / "sample_submission.csv")


@pytest.mark.parametrize("classes", [tiny.CLASSES[:2], tiny.CLASSES])
def test_a_competition_does_not_reach_its_submission_and_report(
    classes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    source = tiny.make(tmp_path / "source", classes=classes)
    workspace = Workspace(tmp_path, source, tiny.params(source))
    workspace.set("learn.learners", {"logistic": {"kind": "logistic"}})
    monkeypatch.chdir(tmp_path)
    stages = ["fetch", "ingest", "augment", "extract tiny", "audit", "split", "rank", "learn logistic"]
    workspace.run(*stages, "blend", "submit", "report")
    wanted = pd.read_csv(source / "sample_submission.csv")
    written = pd.read_csv(layout.SUBMISSION)
    assert written["id"].tolist() == wanted["id"].tolist()
    assert set(written["label"]) <= set(classes)
    assert layout.REPORT_PAGE.read_text().count("<table") > 3
    blended = read_table(layout.BLEND_TEST)
    write_table(layout.BLEND_TEST, blended.iloc[1:])
    assert "1 ids of sample_submission.csv have no prediction" in refusal("submit")
    assert not layout.SUBMISSION.exists()
