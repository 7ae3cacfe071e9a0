"""`goulot clean` says what it would free, asks, and removes nothing that is in use."""

import logging
import os
import time
from pathlib import Path

import pytest

from goulot.commands import clean
from goulot.errors import GoulotError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOULOT_STORE", str(tmp_path / "store"))
    for number in range(4):
        folder = tmp_path / "runs" / f"run-{number}"
        folder.mkdir(parents=True)
        (folder / "submission.csv").write_bytes(b"x" * 1_000_000)
        os.utime(folder, (number, number))
    for name, days in (("used", 0), ("unused", 40)):
        file = tmp_path / "store" / name / "shard.arrow"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 500_000)
        when = time.time() - days * 86_400
        for path in (file, file.parent):
            os.utime(path, (when, when))
    return tmp_path


def test_it_lists_what_would_go_and_asks(checkout: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []
    with caplog.at_level(logging.INFO, "goulot"):
        assert clean.run(keep=2, ask=lambda question: bool(asked.append(question))) == []
    assert asked == ["Remove these 3 folders and free 2.5 MB?"]
    assert "runs/run-0" in caplog.text
    assert len(list(checkout.glob("runs/*"))) == 4


def test_a_run_that_dvc_does_not_keep_is_named_as_such(checkout: Path, caplog: pytest.LogCaptureFixture) -> None:
    (checkout / "runs/run-0/run.json").write_text('{"experiment": "bold-crow"}')
    (checkout / "runs/run-1/run.json").write_text('{"experiment": null}')
    for number in range(2):
        os.utime(checkout / f"runs/run-{number}", (number, number))
    with caplog.at_level(logging.INFO, "goulot"):
        clean.run(keep=2)
    assert "run-0  (an old run; it stays in DVC as bold-crow)" in caplog.text
    assert "run-1  (an old run; kept nowhere else)" in caplog.text


def test_the_newest_runs_and_the_features_in_use_stay(checkout: Path) -> None:
    (checkout / "runs" / ".coming-run-9").mkdir()
    removed = clean.run(keep=2, yes=True)
    assert sorted(item.path.name for item in removed) == ["run-0", "run-1", "unused"]
    assert sorted(path.name for path in checkout.glob("runs/[!.]*")) == ["run-2", "run-3"]
    assert (checkout / "runs" / ".coming-run-9").exists()
    assert [path.name for path in checkout.glob("store/*")] == ["used"]


def test_without_anybody_to_ask_nothing_goes(checkout: Path) -> None:
    assert clean.run(keep=0) == []
    assert len(list(checkout.glob("runs/*"))) == 4


def test_a_fresh_checkout_has_nothing_to_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOULOT_STORE", raising=False)
    assert clean.run(yes=True) == []


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(GoulotError, match="keep is -1"):
        clean.run(keep=-1)
