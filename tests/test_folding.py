"""Folding: the same taps with the batch normalisations gone, and left alone where it would be another network."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from goulot import networks
from goulot.folding import folded
from goulot.taps import Tapped

# A network, the size of its input, and whether all of its normalisations follow a convolution that nothing else reads.
NETWORKS = [
    ("test_resnet", 64, True), ("test_efficientnet", 64, True), ("test_convnext", 64, None), ("test_vit", 160, None),
    ("test_nfnet", 96, None), ("test_byobnet", 64, True), ("mobilenetv3_small_100", 64, True),
    ("densenet121", 64, False), ("xception41p", 64, False),
]  # fmt: skip
LARGER = [
    ("resnet18", 64, True), ("resnetv2_50", 64, False), ("inception_v3", 96, True), ("googlenet", 64, True),
    ("tf_efficientnet_lite0", 64, True), ("dla46_c", 64, True), ("convnext_atto", 64, None),
    ("vit_tiny_patch16_224", 224, None),
]  # fmt: skip


def trained(name: str) -> Tapped:
    """With statistics, scales and shifts such as training leaves: none at its beginning's 0 or 1."""
    generator = torch.Generator().manual_seed(5)
    model = networks.create(name).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.5, 0.5), (module.running_var, 0.3, 2), (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):  # fmt: skip
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)
    model.reset_classifier(0)
    return Tapped(model)


def left(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "size", "whole"), [*NETWORKS, *(pytest.param(*network, marks=pytest.mark.slow) for network in LARGER)]
)
def test_folding_changes_what_a_network_computes(name: str, size: int, whole: bool | None) -> None:
    network = trained(name)
    other = folded(deepcopy(network), size)
    pixels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3)) * 4 - 2  # not those it tried
    with torch.inference_mode():
        before, after = network(pixels), other(pixels)
    assert before.keys() == after.keys()
    for tap, values in before.items():
        assert (values - after[tap]).abs().max() <= 1e-4 * values.abs().max(), tap
    if whole is None:
        assert left(network) == left(other) == 0
    else:
        assert (left(other) == 0) is whole
        assert left(other) < left(network)


class Read(nn.Module):
    """A convolution and its normalisation, with a part between or beside them that folding must notice."""

    feature_info = ({"module": "norm"},)

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.norm.running_mean.fill_(0.5)
        self.norm.weight.data.fill_(2.0)

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.conv(pixels)
        if self.kind == "changed in place":
            maps += 1
        normed = self.norm(maps)
        if self.kind == "read by two":
            return normed + maps
        return self.norm(normed) if self.kind == "used twice" else normed

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return maps.mean((2, 3))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(pixels))


@pytest.mark.parametrize("kind", ["changed in place", "read by two", "used twice"])
def test_a_normalisation_of_something_else_than_the_convolution_s_output_is_folded(kind: str) -> None:
    network = Tapped(Read(kind).eval().requires_grad_(False))
    other, pixels = folded(deepcopy(network), 8), torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        before, after = network(pixels), other(pixels)
    assert all(torch.allclose(before[tap], after[tap]) for tap in before)


def test_a_tap_at_a_normalisation_is_lost_or_keeps_it_from_folding() -> None:
    network = Tapped(Read("").eval().requires_grad_(False))
    other = folded(deepcopy(network), 8)
    pixels = torch.randn(1, 3, 8, 8)
    assert left(other) == 0
    with torch.inference_mode():
        assert torch.allclose(network(pixels)["s1"], other(pixels)["s1"], atol=1e-6)
