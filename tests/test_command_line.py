"""The command line: what a person can put right is one line and exit code 1, in a process of its own as well."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from goulot import layout, params
from goulot.learners import KINDS, find
from goulot.stages import learn, rank
from tests.conftest import ROOT
from tests.tiny import Workspace


@pytest.mark.parametrize("text", ["blend: {a: 1\nsplit: 2", "- a list", "blend:", "blend: 3", ""])
def test_a_params_file_that_is_no_settings_gives_a_traceback(
    text: str, workspace: Workspace, refusal: Callable[..., str]
) -> None:
    (workspace.root / "params.yaml").write_text(text)
    assert "params.yaml" in refusal("blend")


def test_a_missing_params_file_gives_a_traceback(workspace: Workspace, refusal: Callable[..., str]) -> None:
    (workspace.root / "params.yaml").unlink()
    assert "no params.yaml here" in refusal("split")


@pytest.mark.parametrize(("key", "stage"), [("learn.learners", "blend"), ("extract.backbones", "extract tiny")])
def test_an_empty_family_is_accepted(key: str, stage: str, workspace: Workspace, refusal: Callable[..., str]) -> None:
    workspace.set(key, {})
    line = refusal(*stage.split())
    assert key in line
    assert "at least" in line


def test_a_stage_before_its_time_does_not_say_what_to_run(workspace: Workspace, refusal: Callable[..., str]) -> None:
    assert "`dvc repro` runs the stage 'ingest'" in refusal("audit")


def test_the_program_itself_shows_a_traceback(workspace: Workspace, child: Callable[..., object]) -> None:
    workspace.set("blend.rounds", 0)
    result = child("-m", "goulot", "blend")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "blend.rounds is 0" in result.stderr
    assert "Traceback" in child("-m", "goulot", "--debug", "blend").stderr


def test_the_learners_that_ship_are_refused_or_one_has_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name, learner in params.load("learn", learn.Params).learners.items():
        assert find(f"learn.learners.{name}", learner.model_dump())
    assert {path.stem for path in Path("src/goulot/learners").glob("*.py")} - {"__init__"} == set(KINDS)


def test_numbers_are_read_otherwise_than_by_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("rank: {alpha: 1e-3, max_multiply_adds: 1_500_000_000}\n")
    loaded = params.load("rank", rank.Params)
    assert (loaded.alpha, loaded.max_multiply_adds) == (0.001, 1_500_000_000)


def test_the_shell_is_not_offered_the_names_of_params(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_GOULOT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "2")
    for words, offered in (("goulot learn lo", "logistic"), ("goulot extract ", "tiny"), ("goulot preset q", "quick")):
        monkeypatch.setenv("COMP_WORDS", words)
        said = subprocess.run([Path(sys.executable).parent / "goulot"], capture_output=True, text=True, check=False)
        assert said.stdout.split() == [offered], said
    anew = subprocess.run([sys.executable, "-m", "goulot"], capture_output=True, text=True, check=False)
    assert anew.stdout.split() == ["quick"]  # as it is started in a checkout that is not the installed one


def test_clean_removes_without_asking_or_send_goes_on_without_a_submission(
    workspace: Workspace, refusal: Callable[..., str], child: Callable[..., object]
) -> None:
    folder = layout.store() / "old"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    child("-m", "goulot", "clean")
    assert folder.is_dir()
    child("-m", "goulot", "clean", "--yes")
    assert not folder.exists()
    assert "there is no data/submit/submission.csv" in refusal("send", "--competition", "x")
