"""`goulot doctor` finds what would stop a run, and says what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from goulot import cli
from tests.tiny import Workspace


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, str]]:
    """Runs it; gives the exit code and what a person reads."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def look() -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["doctor"], env={"COLUMNS": "250"})
        return (1 if result.exception else 0), f"{result.output}\n{result.exception or ''}"

    return look


def test_a_ready_checkout_is_not_ready(workspace: Workspace, seen: Callable[[], tuple[int, str]]) -> None:
    Path(".git").mkdir()
    Path(".dvc").mkdir()
    code, said = seen()
    assert code == 0, said
    assert "every section is valid" in said
    assert "random" in said


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
