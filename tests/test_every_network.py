"""Every network that people name runs from params.yaml alone: extracted, learned from, submitted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from goulot import layout
from goulot.artifacts import read_json
from tests import tiny
from tests.tiny import Workspace

# By name: the side at which it runs here, and the width of its deepest vector.
NETWORKS = {
    "alexnet": (64, 4096), "googlenet": (32, 1024), "resnet50": (32, 2048), "vgg16": (32, 4096),
    "inception_v3": (96, 2048), "resnet152": (32, 2048), "convnext_atto": (32, 320), "vit_tiny_patch16_224": (32, 192),
    "efficientnet_b0": (32, 1280), "swin_tiny_patch4_window7_224": (56, 768),
}  # fmt: skip


@pytest.fixture(scope="module")
def handful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("handful") / "competition", train=16, test=4)


@pytest.fixture
def prepared(handful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace up to the folds, its features still to be computed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOULOT_STORE", raising=False)
    made = Workspace(tmp_path, handful, tiny.params(handful))
    made.params["augment"]["views"] = 0
    made.params["learn"]["learners"] = {"logistic": {"kind": "logistic"}}
    made.write()
    made.run("fetch", "ingest", "augment", "extract tiny", "audit", "split")
    return made


def submitted() -> pd.DataFrame:
    rows = pd.read_csv(layout.SUBMISSION)
    sample = pd.read_csv("data/ingest/sample_submission.csv")
    assert list(rows.columns) == list(sample.columns)
    assert rows.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    return rows


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_does_not_run_by_its_name(network: str, prepared: Workspace) -> None:
    side, width = NETWORKS[network]
    prepared.set("extract.backbones", {"any": {"model": network, "weights": "random", "input_size": side}})
    prepared.run("extract any", "rank", "learn logistic", "blend", "submit")
    columns = read_json(layout.features("any") / "meta.json")["columns"]
    assert columns["head"]["channels"] == width
    depths = [column.partition(".")[0] for column in columns]
    assert {"s1", "s2"} < set(depths)
    assert ("s1.cls" in columns) == network.startswith("vit")
    for column, about in columns.items():
        values = np.load(layout.features("any") / f"{column}.npy")
        assert values.shape == (20, about["channels"])
        assert np.ptp(values.astype(np.float32), axis=0).max() > 0, f"{column} is the same for all images"
    assert len(submitted()) == 4


def test_lenet5_is_trained_from_scratch_or_a_network_reads_no_map(prepared: Workspace) -> None:
    prepared.set("extract.backbones", {
        "lenet5": {"model": "lenet5", "weights": "random", "taps": [], "maps": ["input"]},
        "tiny": {"model": "test_efficientnet", "weights": "random", "input_size": 64, "maps": ["s3"]},
    })  # fmt: skip
    prepared.set("learn.learners", {
        "scratch": {"kind": "lenet5", "epochs": 40, "batch": 8, "learning_rate": 0.01},
        "recurrent": {"kind": "gru", "backbone": "tiny", "tap": "s3", "hidden": 8, "members": 1, "epochs": 5},
    })  # fmt: skip
    prepared.run("extract lenet5", "extract tiny", "rank")
    assert list(np.load(layout.features("tiny") / "head.npy").shape) == [20, 256]
    assert not list(layout.features("lenet5").glob("*.npy"))
    prepared.run("learn scratch", "learn recurrent", "blend", "submit")
    assert read_json(layout.metrics(layout.learned("scratch")))["roc_auc"] > 0.6
    assert len(submitted()) == 4


def test_a_map_that_is_not_kept_is_named_with_the_line_to_add(prepared: Workspace) -> None:
    prepared.set("learn.learners.scratch", {"kind": "lenet5", "backbone": "tiny"})
    prepared.run("extract tiny", "rank")
    with pytest.raises(Exception, match=r"add input to extract\.backbones\.tiny\.maps"):
        prepared.run("learn scratch")
    prepared.set("learn.learners.scratch", {"kind": "lenet5"})
    with pytest.raises(Exception, match="lenet5"):
        prepared.run("learn scratch")
