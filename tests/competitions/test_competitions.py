"""Ten competitions in Kaggle's layouts, from `goulot init` to a submission that their graders accept and score.

Nothing is written by hand but the metric, and that only where the data cannot tell it.
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from goulot import cli, layout
from goulot.commands import init, preset
from tests.competitions.make_competition import METRICS, SPECS, grade, make
from tests.conftest import ROOT

LEARNERS = {"logistic": {"kind": "logistic"}, "svm": {"kind": "svm"}}
# What the competition's page says, where neither the labels nor the sample submission do.
METRIC = {"auc": "roc_auc", "map5": "map@5", "micro_f1": "f1_micro"}
# A score that is clearly above chance: half of what a perfect submission has over the sample's.
CHANCE = {"auc": 0.5, "kappa": 0.0}
STAGES = ("fetch", "ingest", "augment", "extract lite0", "audit", "split", "rank", "learn logistic", "learn svm",
          "blend", "review", "submit", "report")  # fmt: skip


def _small(path: Path) -> None:
    """One backbone, one view and two learners, as a first look has them; the layout is left as `init` wrote it."""
    preset.run("quick")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    document: dict[str, Any] = yaml.load(path)
    backbones = document["extract"]["backbones"]
    for name in [name for name in backbones if name != "lite0"]:
        del backbones[name]
    document["augment"]["views"] = 1
    document["split"]["folds"] = 3
    document["learn"]["learners"] = LEARNERS
    yaml.dump(document, path)


# Classes in folders; the others take a minute each and run with the slow tests.
QUICK = ("plant-seedlings-classification",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SPECS])
def test_a_competition_is_not_won_by_params_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(name, tmp_path / "data", tmp_path / "answers")
    spec = SPECS[name]
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copyfile(ROOT / "params.yaml", checkout / "params.yaml")
    monkeypatch.chdir(checkout)
    init.run(f"path:{tmp_path / 'data'}", metric=METRIC.get(spec.metric))
    _small(checkout / "params.yaml")
    for stage in STAGES:
        cli.run_stage(*stage.split())
    capsys.readouterr()
    solution = str(tmp_path / "answers/solution.csv")
    score = grade(name, str(layout.SUBMISSION), solution)
    blank = grade(name, str(tmp_path / "data/sample_submission.csv"), solution)
    best = METRICS[spec.metric].best
    chance = CHANCE.get(spec.metric, blank)
    with capsys.disabled():
        print(f"\n{name}: {METRICS[spec.metric].title} {score:.4f} (sample {blank:.4f}, best {best})")  # noqa: T201
    assert abs(best - score) < 0.67 * abs(best - chance)
    assert pd.read_csv(layout.SUBMISSION, dtype=str).columns.tolist() == [spec.id_column, *spec.targets]
