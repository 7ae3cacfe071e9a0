"""What `goulot describe` says of a network is what its layers are and cost."""

import re

import pytest
from typer.testing import CliRunner

from goulot import cli
from goulot.commands import describe
from tests.tiny import Workspace


@pytest.mark.parametrize(
    ("network", "side", "fields"),
    [
        # By the recurrence r + (k - 1) * j over the layers, j the stride so far.
        ("lenet5", 32, ["6", "16", "all"]),
        ("alexnet", 256, ["19", "67", "195", "all"]),
        ("resnet18", 256, ["7", "43", "99", "211", "all", "all"]),
        # Squeeze-and-excitation and attention look at the whole image.
        ("efficientnet_b0", 64, ["all"] * 7),
        ("vit_tiny_patch16_224", 32, ["all"] * 6),
    ],
)
def test_a_receptive_field_is_not_that_of_the_layers(network: str, side: int, fields: list[str]) -> None:
    depths = describe.depths(describe._load(network, {}, side), ("avg", "max"))
    assert [depth.field for depth in depths] == fields


def test_costs_are_not_those_of_the_paper() -> None:
    *_, last_map, head = describe.depths(describe._load("resnet18", {}, 224), ("avg", "max"))
    assert (head.tap, head.output, head.parameters) == ("head", "512", 11_176_512)
    assert head.multiply_adds == pytest.approx(1.814e9, rel=0.001)
    assert (last_map.tap, last_map.output, last_map.stride) == ("s5", "512 x 7 x 7", "32")
    assert (last_map.vector_bytes, last_map.map_bytes) == (2 * 512, 2 * 512 * 49)  # its mean is the head's vector


def test_the_table_needs_weights_or_lacks_a_depth(workspace: Workspace) -> None:
    workspace.set("extract.backbones.tiny.weights", "package:not_here")
    workspace.set("extract.backbones.tiny.taps", ["head"])
    shown = CliRunner().invoke(cli.app, ["describe", "tiny"], env={"COLUMNS": "80"}).output
    assert "tiny, read at 64 x 64 pixels" in shown
    for depth in ("s1", "s5", "head"):
        assert re.search(f"^ *{depth} ", shown, re.MULTILINE)
    assert "…" not in shown
    assert "test_vit" in CliRunner().invoke(cli.app, ["describe", "test_vit", "--input-size", "32"]).output


def test_a_wrong_name_is_not_told_from_networks(workspace: Workspace, refusal: object) -> None:
    said = refusal("describe", "resnet5")
    assert "neither in extract.backbones nor a network" in said
    assert "resnet50" in said
