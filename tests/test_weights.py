"""Weights: those meant, wherever they lie, or an error that names the file and the place where it belongs."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from goulot import networks, weights
from goulot.backbones import Backbone, BackboneParams, load
from goulot.errors import WeightsError

MODEL = "test_resnet.r160_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def state(model: str = MODEL, seed: int = 1) -> dict[str, torch.Tensor]:
    """Tensors with something of their own in each, as trained ones have."""
    generator = torch.Generator().manual_seed(seed)
    made = timm.create_model(model).state_dict()
    return {k: v + 0.1 * torch.rand(v.shape, generator=generator) if v.dim() else v for k, v in made.items()}


def params(source: object, model: str = MODEL, **settings: object) -> BackboneParams:
    return BackboneParams(model=model, weights=str(source), **{"input_size": 64, **settings})


def heads(backbone: Backbone) -> torch.Tensor:
    size = backbone.preprocessing.input_size
    with torch.inference_mode():
        head: torch.Tensor = backbone.network(torch.randn(2, 3, size, size, generator=torch.Generator()))["head"]
    return head


def cached(cache: Path, tensors: dict[str, torch.Tensor], model: str = MODEL) -> Path:
    """The hub's local cache as its client lays it out, holding these tensors as the model's; returns the blob."""
    repo = cache / f"models--{timm.get_pretrained_cfg(model).hf_hub_id.replace('/', '--')}"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (repo / folder).mkdir(parents=True)
    save_file(tensors, repo / "new")
    blob = repo / "blobs" / hashlib.sha256((repo / "new").read_bytes()).hexdigest()
    (repo / "new").rename(blob)
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "snapshots" / COMMIT / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")
    return blob


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache of the hub, on a machine that cannot reach it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_hub_s_cache_gives_other_features_than_its_file(cache: Path, tmp_path: Path) -> None:
    given = state()
    cached(cache, given)
    save_file(given, tmp_path / "w.safetensors")
    torch.save(given, tmp_path / "w.pth")
    hub = load("a", params("hub"))
    for name in ("w.safetensors", "w.pth"):
        file = load("b", params(f"file:{tmp_path / name}"))
        assert file.key() == hub.key()
        assert torch.equal(heads(file), heads(hub))


@pytest.mark.slow
def test_the_hub_s_cache_is_not_found_by_its_environment(tmp_path: Path) -> None:
    given = state()
    blob = cached(tmp_path / "hub", given)
    code = (
        "from goulot.backbones import BackboneParams, load\n"
        f"print(load('a', BackboneParams(model={MODEL!r}, weights='hub', input_size=64)).weights_sha256)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    save_file(given, tmp_path / "w.safetensors")
    assert done.stdout.strip() == load("b", params(f"file:{tmp_path / 'w.safetensors'}")).weights_sha256
    blob.unlink()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "model.safetensors of the hub's timm/test_resnet.r160_in1k is not in its local cache" in done.stderr


def test_a_damaged_file_of_the_hub_s_cache_is_loaded(cache: Path) -> None:
    blob = cached(cache, state())
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(WeightsError, match=f"{blob} is damaged, its hash is not its name; remove it"):
        load("mine", params("hub"))


@pytest.mark.parametrize("half", ["nothing", "a link to nothing"])
def test_an_error_about_missing_weights_names_no_file_or_place(cache: Path, half: str) -> None:
    if half != "nothing":
        cached(cache, state()).unlink()
    with pytest.raises(WeightsError) as error:
        load("mine", params("hub"))
    line = str(error.value)
    assert "extract.backbones.mine.weights" in line
    assert "model.safetensors of the hub's timm/test_resnet.r160_in1k" in line
    assert str(cache / "models--timm--test_resnet.r160_in1k") in line
    assert "goulot weights fetch" in line
    assert "\n" not in line


@pytest.mark.parametrize("model", [MODEL, "dla46_c.in1k"])
def test_another_network_s_file_in_the_hub_s_cache_leaves_random_weights(cache: Path, model: str) -> None:
    cached(cache, state("test_efficientnet"), model)  # of dla, timm's loader itself passes over what is missing
    with pytest.raises(WeightsError, match=f"does not fit {model}"):
        load("mine", params("hub", model))


def test_a_transformer_of_another_size_has_other_weights_by_file_than_by_hub(cache: Path, tmp_path: Path) -> None:
    model = "test_vit.r160_in1k"
    given = state(model)
    cached(cache, given, model)
    save_file(given, tmp_path / "w.safetensors")
    hub, file = (load("a", params(source, model)) for source in ("hub", f"file:{tmp_path / 'w.safetensors'}"))
    assert file.key() == hub.key()
    assert torch.equal(heads(file), heads(hub))


def test_weights_are_matched_with_biases_where_only_the_order_tells(tmp_path: Path) -> None:
    given = state()
    keys = list(given)
    at = keys.index("bn1.weight")
    keys[at], keys[at + 1] = keys[at + 1], keys[at]  # of one shape
    torch.save({f"x.{key}": given[key] for key in keys}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth has x\.bn1\.bias where the network has bn1\.weight"):
        load("mine", params(f"file:{tmp_path / 'w.pth'}"))


def test_a_file_of_another_hash_than_params_name_is_loaded(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pth")
    found = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    source = f"file:{tmp_path / 'w.pth'}"
    assert load("a", params(source, sha256=found.upper())).weights_sha256 == load("b", params(source)).weights_sha256
    with pytest.raises(WeightsError, match=f"w.pth has the hash {found}, not {'0' * 64}; bring the right file"):
        load("mine", params(source, sha256="0" * 64))


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.safetensors"])
def test_an_empty_file_gives_a_traceback(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match="is no state dict"):
        load("mine", params(f"file:{tmp_path / name}"))


def test_a_pickled_network_is_run_as_code(tmp_path: Path) -> None:
    torch.save(timm.create_model(MODEL), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth is no state dict"):
        load("mine", params(f"file:{tmp_path / 'w.pth'}"))


def test_torchvision_s_file_is_another_or_sought_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints"
    for model, name in (("alexnet", "alexnet-owt-7be5be79.pth"), ("googlenet", "googlenet-1378be20.pth")):
        with pytest.raises(WeightsError, match=f"{place / name} is not there") as error:
            weights.find(model, "hub", "extract.backbones.mine.weights", fetch=False)
        assert f"bring {name} there" in str(error.value)
    place.mkdir(parents=True)
    (place / "googlenet-1378be20.pth").write_bytes(b"another file")
    with pytest.raises(WeightsError, match="is another file, its hash does not begin with 1378be20; remove it"):
        load("mine", params("hub", "googlenet"))


def test_torchvision_s_file_gives_other_features_than_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(networks.create("googlenet", seed=3).state_dict(), place / "new")
    name = f"googlenet-{hashlib.sha256((place / 'new').read_bytes()).hexdigest()[:8]}.pth"
    (place / "new").rename(place / name)
    monkeypatch.setitem(networks.GoogLeNet.pretrained_cfg, "url", f"https://localhost/{name}")
    hub, file = (load("a", params(source, "googlenet")) for source in ("hub", f"file:{place / name}"))
    assert file.key() == hub.key()
    assert torch.equal(heads(file), heads(hub))


def test_made_up_weights_stand_in_for_those_a_network_never_had(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there are no ImageNet weights for lenet5; set weights: random"):
        load("mine", params("hub", "lenet5", input_size=32))
