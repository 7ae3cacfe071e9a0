"""A preset changes what it names and nothing else; what it names exists."""

import difflib
from pathlib import Path

import pytest
import timm

from goulot import params
from goulot.commands import preset
from goulot.errors import ParamsError
from tests.conftest import ROOT


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The params.yaml that ships, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    return file


def test_what_ships_is_not_the_default(own: Path) -> None:
    before = own.read_text()
    assert preset.run("default") == ["params.yaml is as the preset default has it; next: dvc repro"]
    assert own.read_text() == before


@pytest.mark.parametrize("name", ["quick", "gpu"])
def test_a_preset_loses_comments_or_settings_or_cannot_be_undone(name: str, own: Path) -> None:
    before = own.read_text()
    said = preset.run(name)
    changed = [line for line in difflib.ndiff(before.splitlines(), own.read_text().splitlines()) if line[0] in "-+"]
    assert not [line for line in changed if line.startswith("- ") and "#" in line and "views" not in line
                and "whose features" not in line]  # fmt: skip
    told = {
        "quick": [
            "finetune.networks.lite0: backbone lite0, tap s4, depthwise False, epochs 10, learning_rate 0.002, "
            "classifier_rate 0.004 -> -"
        ],
        "gpu": ["augment.views: 3 -> 7", "audit.backbone: lite0 -> convnext"],
    }
    assert set(told[name]) <= set(said)
    for section, settings in preset.read(name).items():
        assert {key: params.read()[section][key] for key in settings} == settings
    preset.run("default")
    assert own.read_text() == before


def test_an_unknown_preset_is_taken_or_a_section_that_is_lacking_made_up(own: Path) -> None:
    with pytest.raises(ParamsError, match=r"unknown preset 'gpus'; .*default, gpu, quick .did you mean 'gpu'"):
        preset.run("gpus")
    text = "augment: {views: 2}\n"
    own.write_text(text)
    with pytest.raises(ParamsError, match="extract must hold settings"):
        preset.run("quick")
    assert own.read_text() == text


@pytest.mark.parametrize("name", preset.NAMES)
def test_a_preset_names_a_network_that_is_not_there(name: str) -> None:
    wanted = preset.read(name)
    backbones = wanted["extract"]["backbones"]
    assert wanted["audit"]["backbone"] in backbones
    for backbone in backbones.values():
        assert timm.is_model(backbone["model"].partition(".")[0])
        if backbone["weights"] == "hub":
            assert timm.get_pretrained_cfg(backbone["model"]).hf_hub_id
    for network in wanted["finetune"]["networks"].values():
        assert network["tap"] in backbones[network["backbone"]]["maps"]
