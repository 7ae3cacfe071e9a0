"""Pruning: what goes is what the images do not use, no label decides, and what `extract` runs is what was measured."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from goulot import backbones, layout, networks, pruned, pruning
from goulot.artifacts import file_sha256, read_json, read_table, write_table
from goulot.backbones import Backbone, BackboneParams
from goulot.commands import describe
from goulot.elimination import Moments, Reader, eliminate, made_up
from goulot.errors import ParamsError
from goulot.stages import prune
from goulot.taps import Tapped
from tests.tiny import Workspace

SIDE = 64


def backbone(model: str, side: int = SIDE) -> Backbone:
    return backbones.load("it", BackboneParams(model=model, weights="random", input_size=side))


def pictures(side: int = SIDE, batches: int = 2) -> list[torch.Tensor]:
    """Batches of made-up pixels, uint8 (16, side, side, 3)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (16, side, side, 3), generator=generator, dtype=torch.uint8) for _ in range(batches)]


def without(given: Backbone, share: float, batches: int = 2) -> nn.Module:
    model, size = given.network.model, given.preprocessing.input_size
    layers = pruning.readers(model, size, "it")
    _, seen = pruning.look(model, layers, pictures(size, batches), given.preprocessing)
    return pruning.without(model, size, seen, share, "it")


def spent(model: nn.Module, side: int = SIDE) -> int:
    return sum(pruning._multiply_adds(model, side).values())


def test_a_channel_that_is_used_goes_before_those_that_are_dead() -> None:
    given = backbone("resnet18", 32)
    block: Any = given.network.model.get_submodule("layer1.0")
    dead = [*range(3, 35), 60, *range(40, 47)]
    alive = sorted(set(range(64)) - set(dead))
    with torch.no_grad():
        for tensor in (block.conv1.weight, block.bn1.weight, block.bn1.bias):
            tensor[dead] = 0
    layers = pruning._multiply_adds(given.network.model, 32)
    taken = (layers["layer1.0.conv1"] + layers["layer1.0.conv2"]) * len(dead) / 64
    narrow: Any = without(given, 1.0001 * taken / sum(layers.values()))
    assert narrow.layer1[0].conv1.out_channels == 64 - len(dead)
    assert torch.equal(narrow.layer1[0].conv1.weight, block.conv1.weight[alive])
    assert narrow.layer2[0].conv1.out_channels == 128, "others went as well"
    before, after = (pruning.heads(m, pictures(32), given.preprocessing) for m in (given.network.model, narrow))
    assert np.allclose(before, after, rtol=1e-3, atol=1e-4)


def test_of_two_channels_that_say_the_same_both_go_or_the_other_does_not_take_its_part() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 6))
    x[:, 4] = 2 * x[:, 1]
    seen = Moments(torch.from_numpy(x.T @ x / len(x)), len(x))
    weight = torch.from_numpy(rng.normal(size=(5, 6))).float()
    order, cost = eliminate([Reader(weight, seen, range(6))], 6)
    assert order[0] in (1, 4)
    assert cost[0] < 1e-3 < 0.03 < cost[1]
    assert {1, 4} - {order[0]} != {order[1]}
    left = np.setdiff1d(np.arange(6), order[:1])
    assert np.allclose(x @ weight.T.numpy(), x[:, left] @ made_up(weight, left, seen).T.numpy(), atol=0.01)


@pytest.mark.parametrize(
    ("model", "side", "share"),
    [("test_efficientnet", 64, 0.3), ("test_resnet", 64, 0.3), ("test_vit", 160, 0.2), ("test_convnext", 64, 0.2),
     ("mobilenetv3_small_050", 64, 0.2), ("lenet5", 32, 0.05)],
)  # fmt: skip
def test_a_family_gets_no_smaller_or_its_file_gives_another_network(
    model: str, side: int, share: float, tmp_path: Path
) -> None:
    given = backbone(model, side)
    narrow = without(given, share, batches=4)
    assert (1 - share) * spent(given.network.model, side) <= spent(narrow, side) < spent(given.network.model, side)
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in given.network.model.parameters())
    file = tmp_path / "network.safetensors"
    pruned.write(file, narrow, pruned.compare(model, networks.create(model, input_size=side), narrow))
    params = BackboneParams(model=model, weights=f"file:{file}", input_size=side, sha256=file_sha256(file))
    loaded = backbones.load("slim", params).network.model
    before, after = (pruning.heads(m, pictures(side), given.preprocessing) for m in (narrow, loaded))
    assert before.shape[1] == pruning.heads(given.network.model, pictures(side), given.preprocessing).shape[1]
    assert np.allclose(before, after, rtol=1e-4, atol=1e-5)


def test_a_narrow_map_as_wide_as_its_stage_had_channels_is_taken_for_one_with_channels_last() -> None:
    network = Tapped(networks.create("resnet18"))
    assert network.kind("s2", torch.zeros(1, 56, 64, 64)) == "map"  # 64 channels once


def test_few_images_are_said_to_tell_something() -> None:
    with pytest.raises(ParamsError, match=r"set a larger share or more images"):
        without(backbone("lenet5", 32), 0.1)


@pytest.fixture
def pruning_ws(ready: Workspace) -> Workspace:
    """A workspace in which a tiny network is to be pruned, at no matter what cost."""
    ready.set("prune", {"networks": {"slim": {"backbone": "tiny", "share": 0.3, "tolerance": 1.0}}})
    return ready


def test_the_pruned_network_is_not_what_extract_runs_or_its_numbers_are_not_its_own(
    pruning_ws: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "goulot")
    pruning_ws.set("extract.backbones.tiny.crop_pct", 1.0)
    pruning_ws.run("extract tiny", "prune slim")
    numbers = read_json(layout.metrics(layout.pruned("slim")))
    assert numbers["kept"] == "pruned"
    assert numbers["after"]["multiply_adds"] < 0.8 * numbers["before"]["multiply_adds"]
    assert numbers["after"]["parameters"] < numbers["before"]["parameters"]
    meta = read_json(layout.features("tiny") / "meta.json")
    assert numbers["before"]["multiply_adds"] == meta["columns"]["head"]["multiply_adds"]
    speed = read_json(layout.speed("prune@slim"))
    assert speed["before"] > 0
    assert speed["after"] > 0
    assert "images/s" in caplog.text
    lines = caplog.messages[-1].partition("\n")[2]  # those that the stage says to add
    added = YAML(typ="safe").load(lines)["slim"]
    assert added["sha256"] == file_sha256(layout.pruned_weights("slim"))
    assert (added["input_size"], added["crop_pct"]) == (64, 1.0)
    pruning_ws.set("extract.backbones.slim", added)
    pruning_ws.run("extract slim", "rank")
    columns = read_json(layout.features("slim") / "meta.json")["columns"]
    assert columns["head"]["multiply_adds"] == numbers["after"]["multiply_adds"]
    loaded = describe._load("slim", {"slim": BackboneParams(**added)}, None)
    assert loaded.known[-1].multiply_adds == numbers["after"]["multiply_adds"]
    rows = read_table(layout.features("slim") / "rows.parquet")
    found = np.load(layout.features("slim") / "head.npy")[(rows["view"] == 0).to_numpy()]
    again = pruning.heads(loaded.network.model, _pixels(loaded), loaded.preprocessing)
    assert np.allclose(found, again, rtol=2e-3, atol=2e-3)


def _pixels(given: Backbone) -> list[torch.Tensor]:
    """Every image of the workspace, in the manifest's order."""
    manifest = read_table(layout.MANIFEST)
    return list(prune._pixels(given, manifest, 2, "all")())


def test_a_network_that_lost_too_much_is_kept_or_nothing_is_said(
    pruning_ws: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    pruning_ws.set("prune.networks.slim.share", 0.9)
    pruning_ws.run("prune slim")
    assert layout.pruned_weights("slim").is_file()
    pruning_ws.set("prune.networks.slim.tolerance", 0.02)
    pruning_ws.run("prune slim")
    assert [path.name for path in layout.pruned("slim").iterdir()] == ["metrics.json"]
    numbers = read_json(layout.metrics(layout.pruned("slim")))
    before, after = (numbers[when]["score"] for when in ("before", "after"))
    assert after < before - 0.02
    assert numbers["kept"] == "original"
    said = caplog.messages[-1]
    assert f"the score falls from {before:.4f} to {after:.4f}, by more than" in said
    assert "prune.networks.slim.tolerance (0.02): tiny stays as it is" in said


def test_labels_change_the_pruned_network_or_a_second_run_gives_other_bytes(pruning_ws: Workspace) -> None:
    pruning_ws.run("prune slim")
    files = {path.name: path.read_bytes() for path in layout.pruned("slim").iterdir()}
    assert set(files) == {"metrics.json", "network.safetensors"}
    pruning_ws.run("prune slim")
    assert {path.name: path.read_bytes() for path in layout.pruned("slim").iterdir()} == files
    manifest = read_table(layout.MANIFEST)
    inside = (manifest["split"] == "train").to_numpy()
    labels = manifest["label"].to_numpy(dtype=object, copy=True)
    labels[inside] = np.random.default_rng(0).permutation(labels[inside])
    write_table(layout.MANIFEST, manifest.assign(label=labels))
    pruning_ws.run("prune slim")
    assert layout.pruned_weights("slim").read_bytes() == files["network.safetensors"]
    assert layout.metrics(layout.pruned("slim")).read_bytes() != files["metrics.json"]


def test_a_file_is_taken_without_its_hash_or_one_that_is_not_the_network_s(
    pruning_ws: Workspace, refusal: Callable[..., str]
) -> None:
    file = layout.pruned_weights("slim")
    settings = {"model": "test_efficientnet", "weights": f"file:{file}", "input_size": 64, "sha256": "0" * 64}
    pruning_ws.set("extract.backbones.slim", settings)
    assert f"{file} is not there; dvc repro prune@slim writes it" in refusal("extract", "slim")
    pruning_ws.run("prune slim")
    right = file_sha256(file)
    said = refusal("extract", "slim")
    assert f"has the hash {right}, not {'0' * 64}; set sha256 to it if prune wrote the file anew" in said
    pruning_ws.set("extract.backbones.slim.sha256", None)
    assert f"is a pruned network; set extract.backbones.slim.sha256: {right}" in refusal("extract", "slim")
    pruning_ws.set("extract.backbones.slim", {**settings, "sha256": right, "model": "test_resnet"})
    assert "set extract.backbones.slim.model: test_efficientnet" in refusal("extract", "slim")

    def spoilt(change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object], header: str | None = None) -> str:
        with safe_open(layout.pruned_weights("slim"), "pt") as opened:
            tensors, about = load_file(file), json.loads(opened.metadata()[pruned.HEADER])
        change(tensors, about)
        bad = pruning_ws.root / "bad.safetensors"
        save_file(tensors, bad, {pruned.HEADER: header or json.dumps(about)})
        pruning_ws.set("extract.backbones.slim", {**settings, "weights": f"file:{bad}", "sha256": file_sha256(bad)})
        return refusal("extract", "slim")

    first = "blocks.0.0.conv.weight"
    assert "does not say how it was pruned" in spoilt(lambda *_: None, header="{")
    assert "does not say how it was pruned" in spoilt(lambda _, about: about.pop("modules"))
    assert f"lacks {first}" in spoilt(lambda tensors, _: tensors.pop(first))
    assert "prunes stem" in spoilt(lambda _, about: about["modules"].update(stem={}))
    assert "has (1,) where conv_stem.weight" in spoilt(lambda t, _: t.update({"conv_stem.weight": torch.ones(1)}))
    bad = pruning_ws.root / "bad.safetensors"
    bad.write_bytes(file.read_bytes()[:2000])
    pruning_ws.set("extract.backbones.slim", {**settings, "weights": f"file:{bad}", "sha256": file_sha256(bad)})
    assert "bad.safetensors is no state dict" in refusal("extract", "slim")


def test_what_cannot_be_pruned_is_not_said_in_one_line(
    pruning_ws: Workspace, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unknown network 'slam'; prune.networks has slim (did you mean 'slim'?)" in refusal("prune", "slam")
    for key, value, words in (
        ("backbone", "tinny", "unknown backbone 'tinny'; prune.networks.slim.backbone can be one of tiny"),
        ("share", 1, "prune.networks.slim.share is 1"),
        ("share", 1e-6, "prune.networks.slim: nothing can go: share is 1e-06"),
    ):
        before = pruning_ws.params["prune"]["networks"]["slim"][key]
        pruning_ws.set(f"prune.networks.slim.{key}", value)
        assert words in refusal("prune", "slim")
        pruning_ws.set(f"prune.networks.slim.{key}", before)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    assert "prune needs torch-pruning; pip install 'goulot[prune]'" in refusal("prune", "slim")
