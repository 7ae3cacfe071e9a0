"""The user's first command: the whole graph by `dvc repro` in a clone, on a small cut of the sample."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from tests.conftest import ROOT


def _run(folder: Path, *command: str) -> str:
    env = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    env |= {"DVC_NO_ANALYTICS": "1", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    env |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
    env.pop("GOULOT_STORE", None)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def _clone(folder: Path) -> Path:
    """The files that git knows or would take, committed."""
    for name in _run(ROOT, "git", "ls-files", "-co", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    params = yaml.load(folder / "params.yaml")
    params["fetch"]["limit"] = 200
    params["augment"]["views"] = 1
    params["extract"]["backbones"] = {"lite0": {**params["extract"]["backbones"]["lite0"], "input_size": 64}}
    params["learn"]["learners"]["mlp"]["epochs"] = 1
    params["learn"]["learners"]["lightgbm"]["trees"] = 20
    yaml.dump(params, folder / "params.yaml")
    _run(folder, "git", "init", "--quiet")
    _run(folder, "git", "add", "--all")
    _run(folder, "git", "commit", "--quiet", "--message", "A cut of the sample")
    return folder


def test_the_first_command_fails_or_a_second_one_works_again(tmp_path: Path) -> None:
    folder = _clone(tmp_path)
    said = _run(folder, "dvc", "repro")
    assert "data/submit/submission.csv" in said
    assert "logistic" in said
    sample = pd.read_csv(folder / "data/raw/sample_submission.csv")
    submitted = pd.read_csv(folder / "data/submit/submission.csv")
    assert submitted["id"].tolist() == sample["id"].tolist()
    assert submitted["label"].between(0, 1).all()
    assert "<h1>" in (folder / "data/report/index.html").read_text()
    assert _run(folder, "git", "status", "--porcelain").strip() in ("", "?? dvc.lock", "M dvc.lock")
    assert "log_loss" in _run(folder, "dvc", "metrics", "show")
    _run(folder, "dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    assert (tmp_path / "plots/index.html").is_file()
    assert "Running stage" not in _run(folder, "dvc", "repro")

    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rounds: 30", "rounds: 31"))
    again = _run(folder, "dvc", "repro")
    assert [word.split("'")[1] for word in again.split("Running stage ")[1:]] == ["blend", "submit", "report"]

    lines = params.read_text().splitlines(keepends=True)
    params.write_text("".join(line for line in lines if "{kind: svm}" not in line))
    again = _run(folder, "dvc", "repro")
    assert [word.split("'")[1] for word in again.split("Running stage ")[1:]] == ["blend", "submit", "report"]
    assert not (folder / "data/learn/svm").exists()
    assert "svm" not in pd.read_csv(folder / "data/blend/leaderboard.csv")["learner"].tolist()
    assert "Running stage" not in _run(folder, "dvc", "repro")
