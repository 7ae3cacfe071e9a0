"""`goulot compare` on two revisions that DVC holds."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from goulot import cli, layout, params
from goulot.artifacts import read_table, write_table
from goulot.commands import compare
from tests.tiny import Workspace

LEARNERS = {"logistic": {"kind": "logistic"}, "strict": {"kind": "logistic", "C": 1e-6}}
GRAPH = {"stages": {"all": {"cmd": "true", "outs": ["data/ingest", "data/split", "data/blend"]}}}


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _commit(message: str) -> None:
    _call(sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    _call("git", "add", "-A")
    _call("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", message)


def test_settings_that_nothing_ran_with_are_compared_without_a_word(workspace: Workspace) -> None:
    now = params.read()
    assert compare.outdated(now) == []
    stages = {
        "ingest": {"cmd": "goulot ingest", "params": {"params.yaml": {"ingest": now["ingest"]}}},
        "split": {"cmd": "goulot split", "params": {"params.yaml": {"split.folds": 99, "split.seed": 0}}},
        "audit": {"cmd": "goulot audit"},
        "learn@gone": {"cmd": "goulot learn gone", "params": {"params.yaml": {"learn.learners.gone": {"kind": "svm"}}}},
    }
    with Path("dvc.lock").open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)
    assert compare.outdated(now) == ["split"]
    workspace.set("ingest.drop", ["train/train000"])
    assert compare.outdated(params.read()) == ["ingest", "split"]


@pytest.mark.slow
def test_what_differs_between_two_runs_is_not_told(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refusal: Callable[..., str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ready.set("learn.learners", LEARNERS)
    ready.run("rank", "learn logistic", "learn strict", "blend")
    Path("dvc.yaml").write_text("")
    with Path("dvc.yaml").open("w") as file:
        YAML().dump(GRAPH, file)
    _call("git", "init", "-q")
    _call(sys.executable, "-m", "dvc", "init", "--quiet")
    Path(".gitignore").write_text("/data/\n/.goulot/\n/competition/\n")
    _commit("both")
    ready.set("learn.learners", {"strict": LEARNERS["strict"]})
    ready.run("blend")
    oof = read_table(layout.BLEND_OOF)
    oof.loc[5, ["p.good", "p.cracked"]] = [0.999, 0.001]  # that of a cracked image
    write_table(layout.BLEND_OOF, oof)
    table = pd.read_csv(layout.CONFUSION)
    write_table(layout.CONFUSION, table.assign(predicted=table["predicted"].where(table.index != 5, "good")))
    monkeypatch.setattr(sys, "argv", ["goulot", "compare", "HEAD", "--rows", "1", "--csv", "images.csv"])
    capsys.readouterr()
    cli.app(standalone_mode=False)
    said = capsys.readouterr().out
    lines = {line.strip("│ ").split("│")[0].strip(): line for line in said.splitlines() if "│" in line}
    assert "1e-06" not in said  # which is alike in both
    assert lines["learn.learners.logistic.kind"].count("-") == 1
    assert lines["logistic: log-loss"].split("│")[-2].strip() == "-"
    assert "+0." in lines["difference: log-loss"]
    assert "±" in lines["difference: log-loss"]
    images = pd.read_csv("images.csv")
    assert len(images) == 60
    assert images.loc[0, "image_id"] == oof.loc[5, "image_id"]
    assert images.loc[0, ["truth", "decided by HEAD", "decided by workspace"]].tolist() == [
        "cracked",
        "cracked",
        "good",
    ]
    assert images.loc[0, "error of workspace"] == pytest.approx(0.999)
    assert lines[str(oof.loc[5, "image_id"])].count("cracked") == 2
    assert "HEAD~9 has no" in refusal("compare", "HEAD~9")
