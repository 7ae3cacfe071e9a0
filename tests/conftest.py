"""A tiny competition and a workspace around it; the workspace is the test's current directory."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goulot.__main__ import OPENMP

os.environ.update(OPENMP)  # before torch is imported: it is read then

from goulot import cli
from tests import tiny

ROOT = Path(__file__).parent.parent
READY = ("fetch", "ingest", "augment", "extract tiny", "audit", "split")


@pytest.fixture(scope="session", autouse=True)
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Engines are settled for the tests alone, not read from or written to the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOULOT_ENGINES", str(tmp_path_factory.mktemp("engines")))
        yield


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """The files of a competition of two classes, 60 training and 20 test images of 64 pixels."""
    return tiny.make(tmp_path / "competition")


@pytest.fixture
def workspace(tmp_path: Path, competition: Path, monkeypatch: pytest.MonkeyPatch) -> tiny.Workspace:
    """A workspace in which nothing has run yet."""
    return _enter(tmp_path, competition, monkeypatch)


@pytest.fixture(scope="session")
def ready_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the stages up to `extract` have run, made once."""
    root = tmp_path_factory.mktemp("ready")
    made = tiny.Workspace(root, tiny.make(root / "competition"))
    made.params = tiny.params(made.competition)
    made.write()
    with contextlib.chdir(root), pytest.MonkeyPatch.context() as patch:
        patch.delenv("GOULOT_STORE", raising=False)
        made.run(*READY)
    return root


@pytest.fixture
def ready(ready_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tiny.Workspace:
    """A workspace of the test's own in which the stages up to `extract` have run."""
    root = tmp_path / "ready"
    shutil.copytree(ready_template, root)
    return _enter(root, root / "competition", monkeypatch)


def _enter(root: Path, competition: Path, monkeypatch: pytest.MonkeyPatch) -> tiny.Workspace:
    made = tiny.Workspace(root, competition, tiny.params(competition))
    made.write()
    monkeypatch.chdir(root)
    monkeypatch.delenv("GOULOT_STORE", raising=False)
    return made


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command line that must be refused; gives the one line that a person sees."""

    def refused(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["goulot", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.run()
        said = capsys.readouterr()
        assert stop.value.code == 1
        assert said.out == ""
        assert said.err.startswith("goulot: ")
        assert len(said.err.splitlines()) == 1, said.err
        return said.err

    return refused


@pytest.fixture
def child() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs Python in a process of its own."""

    def start(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    return start


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    return found
