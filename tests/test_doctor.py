"""`goulot doctor` finds what would stop a run, and says what to do."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from goulot import cli
from goulot.commands import doctor
from tests.tiny import Workspace


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, str]]:
    """Runs it; gives the exit code and what a person reads."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def look() -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["doctor"], env={"COLUMNS": "250"})
        return (1 if result.exception else 0), f"{result.output}\n{result.exception or ''}"

    return look


@pytest.fixture
def checkout(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A repository that DVC knows, with an environment that is activated."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for command in ("git init -q", f"{sys.executable} -m dvc init -q"):
        subprocess.run(command.split(), check=True)
    stages = "".join(f"  {name}: {{cmd: 'true', outs: [data/{name}]}}\n" for name in ("a", "b", "c", "d", "e"))
    Path("dvc.yaml").write_text(f"stages:\n{stages}")
    return workspace


def test_a_ready_checkout_is_not_ready(checkout: Workspace, seen: Callable[[], tuple[int, str]]) -> None:
    code, said = seen()
    assert code == 0, said
    assert "every section is valid" in said
    assert "random" in said
    assert "dvc repro has to look at a, b, c, d and 1 more" in said


def test_a_stage_that_would_not_find_goulot_or_a_gpu_that_is_not_there_is_passed_over(
    checkout: Workspace, seen: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    checkout.set("extract.device", "cuda")
    code, said = seen()
    assert code == 1
    assert re.search(r"goulot on the PATH +│ to do │ not there, so dvc repro would not find it; \. \S+/activate", said)
    assert "none, but params.yaml says extract.device: cuda; auto takes the CPU" in said


def test_a_version_that_goulot_does_not_work_with_is_passed_over(
    checkout: Workspace, seen: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["fastapi>=0.1,<0.2", "gone>=1", 'none>=1; extra == "dev"'])
    code, said = seen()
    assert code == 1
    assert re.search(r'fastapi +│ to do │ \S+; pip install "fastapi<0.2,>=0.1"', said)
    assert re.search(r"gone +│ to do │ not installed", said)
    assert "none>=1" not in said


def test_what_stops_a_run_is_passed_over(
    workspace: Workspace, seen: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.params["extract"]["backbones"]["other"] = {"model": "resnet18", "weights": "file:gone.pth"}
    workspace.set("blend.rounds", 0)
    workspace.set("fetch.source", "path:gone")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, said = seen()
    assert code == 1
    for fault in ("blend.rounds is 0", "gone.pth is not there", "dvc init", "does not answer"):
        assert fault in said
    assert "gone is not there; correct fetch.source" in said
    assert "not ready: " in said
