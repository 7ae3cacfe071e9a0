"""Tails: what was cut off computes what the whole network computes, or the cut is refused."""

import pytest
import torch

from goulot.backbones import Backbone, BackboneParams, load
from goulot.errors import ParamsError
from goulot.tails import cut
from goulot.taps import as_map

WHERE = "finetune.networks.mine.tap"
# A depth of each family, and the side at which the network runs here.
FAMILIES = {
    "resnet18": ("s4", 64), "tf_efficientnet_lite0": ("s4", 64), "convnext_atto": ("s3", 64), "alexnet": ("s2", 64),
    "mobilenetv3_small_050": ("s3", 64), "lenet5": ("s1", 32),
}  # fmt: skip
LARGE = {
    "densenet121": ("s3", 64), "googlenet": ("s4", 64), "swin_tiny_patch4_window7_224": ("s3", 56), "vgg11": ("s4", 64),
    "inception_v3": ("s4", 96), "resnet50": ("s4", 64),
}  # fmt: skip


def network(model: str, side: int) -> Backbone:
    return load("mine", BackboneParams(model=model, weights="random", input_size=side))


@pytest.mark.parametrize("model", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_a_tail_computes_something_else_than_its_network(model: str) -> None:
    tap, side = {**FAMILIES, **LARGE}[model]
    backbone = network(model, side)
    about = next(known for known in backbone.known if known.name == tap)
    tail = cut(backbone, tap, WHERE)
    pixels = torch.randn(3, 3, side, side)
    with torch.no_grad():
        outputs = dict(backbone.network(pixels))
        found = tail(as_map(outputs[tap], about.kind, about.prefix))
    assert torch.allclose(found, outputs["head"], rtol=1e-3, atol=1e-4)
    assert found.shape == (3, tail.features)
    parameters = {id(p) for p in backbone.network.parameters()}
    assert not any(id(p) in parameters for p in tail.parameters()), "training the tail would change the network"
    count = sum(p.numel() for p in backbone.network.parameters())
    assert sum(p.numel() for p in tail.parameters()) == pytest.approx(count - about.parameters, rel=0.01)


def test_a_network_that_cannot_be_cut_is_cut_or_the_depths_that_can_are_not_named() -> None:
    with pytest.raises(ParamsError) as error:
        cut(network("test_vit", 160), "s2", WHERE)
    said = str(error.value)
    assert said.startswith(f"{WHERE} is s2")
    assert said.endswith("can be cut after input")
    assert "\n" not in said
    with pytest.raises(ParamsError, match=r"unknown tap 's9'; finetune.networks.mine.tap can be one of input, s1"):
        cut(network("test_efficientnet", 64), "s9", WHERE)


def test_a_tail_cannot_be_trained() -> None:
    tail = cut(network("test_efficientnet", 64), "s2", WHERE).requires_grad_(True).train()
    about = next(t for t in network("test_efficientnet", 64).known if t.name == "s2")
    tail(torch.randn(4, *about.shape)).sum().backward()
    assert all(p.grad is not None for p in tail.parameters())
