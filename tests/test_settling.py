"""The engine: settled once, kept, and never on speed alone; every runtime computes what torch does in float32."""

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from goulot import engine as engines
from goulot import layout, processor, runtimes, settling
from goulot.artifacts import read_json
from goulot.backbones import Backbone, BackboneParams, load
from goulot.engine import Engine, EngineParams, Record
from goulot.errors import ArtifactError
from tests.tiny import Workspace

PLAIN = Engine("cpu", "float32", 4, 2)
LEAST = EngineParams().least_cosine
needs_compiler = pytest.mark.skipif(
    bool(runtimes.unavailable("compile", "cpu", "float32")), reason="no C++ compiler here"
)
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


def network(model: str = "test_efficientnet", size: int | None = 64, weights: str = "random") -> Backbone:
    return load("tiny", BackboneParams(model=model, weights=weights, input_size=size))


def pixels(engine: Engine, _count: int) -> list[Tensor]:
    return [drawn(engine.batch)]


def drawn(count: int, size: int = 64) -> Tensor:
    values = np.random.default_rng(0).integers(0, 256, (count, size // 8, size // 8, 3), dtype=np.uint8)
    return torch.from_numpy(values.repeat(8, axis=1).repeat(8, axis=2))


def columns(backbone: Backbone) -> dict[str, tuple[str, str]]:
    """Every tap, pooled in every way, and every map."""
    found = {}
    for tap in backbone.known:
        found.update({column: (tap.name, p) for column, p in tap.poolings(("avg", "max", "gem")).items()})
        if tap.kind != "vector":
            found[f"{tap.name}.map"] = (tap.name, "map")
    return found


def least(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    assert all(one[column].shape == other[column].shape for column in one)
    return min(
        float(cosine_similarity(one[c].flatten(1).double(), other[c].flatten(1).double()).min()) for c in one
    )  # fmt: skip


def small(engine: Engine, _count: int) -> list[Tensor]:
    return [drawn(engine.batch, 32)]


def untried(_engine: Engine, _count: int) -> list[Tensor]:
    raise AssertionError("a trial was made")


def auto(**values: Any) -> EngineParams:
    return EngineParams(**{"device": "cpu", "batch": 4, "threads": 2, **values})


def test_a_rerun_settles_anew_or_keeps_what_a_new_trial_was_asked_for(tmp_path: Path) -> None:
    backbone, params = network(), auto()
    kept = engines.record(params, backbone, tmp_path)
    first = settling.settle(params, backbone, kept, 100, pixels)
    assert settling.settle(params, backbone, kept, 100, untried) == first
    assert kept.read()[1]["forward_s"] >= 0
    other = replace(first, batch=2, dtype="float32", runtime="torch", threads=1)
    kept.write(other, {})  # what another trial may have said
    assert settling.settle(params, backbone, engines.record(params, backbone, tmp_path), 10**9, untried) == other
    again = auto(trial=1)
    fresh = engines.record(again, backbone, tmp_path)
    assert fresh.path != kept.path
    with pytest.raises(AssertionError, match="a trial was made"):
        settling.settle(again, backbone, fresh, 100, untried)
    for changed in (auto(threads=1), auto(dtype="float32"), auto(batch=8)):
        assert engines.record(changed, backbone, tmp_path).path != kept.path


def test_a_damaged_record_gives_a_traceback_or_another_engine(tmp_path: Path) -> None:
    backbone, params = network(), auto(dtype="float32", runtime="torch")
    kept = engines.record(params, backbone, tmp_path)
    settling.settle(params, backbone, kept, 100, untried)
    whole = kept.path.read_text()
    for text in ("", whole[: len(whole) // 2], json.dumps({"engine": {"device": "cpu"}}), "[]"):
        kept.path.write_text(text)
        with pytest.raises(ArtifactError, match="is damaged; remove it, and the engine is settled anew"):
            settling.settle(params, backbone, kept, 100, untried)


@pytest.fixture
def cancelling(tmp_path: Path) -> Backbone:
    """A network whose second layer takes differences between large, nearly equal values: 8 bits of them are noise."""
    from goulot import networks

    made = networks.create("lenet5")
    with torch.no_grad():
        made.features[0].bias.fill_(1000.0)
        made.features[3].weight -= made.features[3].weight.mean((1, 2, 3), keepdim=True)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    return network("lenet5", 32, f"file:{tmp_path / 'w.pth'}")


def test_sixteen_bits_are_taken_where_features_do_not_hold_in_them(
    cancelling: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settling, "_short", lambda _device: ["bfloat16"])
    caplog.set_level("INFO", logger="goulot")
    for backbone, dtype in ((cancelling, "float32"), (network("lenet5", 32), "bfloat16")):
        params = auto(runtime="torch")
        kept = engines.record(params, backbone, tmp_path)
        assert settling.settle(params, backbone, kept, 100, small).dtype == dtype
        assert (kept.read()[1]["trial"]["bfloat16 by torch"]["least_cosine"] >= LEAST) is (dtype != "float32")
    assert "not exact enough" in caplog.text


@pytest.mark.parametrize("runtime", ["torch", pytest.param("auto", marks=needs_openvino)])
def test_bfloat16_loses_what_a_start_in_float32_would_keep(
    cancelling: Backbone, tmp_path: Path, runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="goulot")
    params = auto(dtype="bfloat16", runtime=runtime)
    kept = engines.record(params, cancelling, tmp_path)
    engine = settling.settle(params, cancelling, kept, 100, small)
    assert (engine.dtype, engine.exact) == ("bfloat16", "s2")
    assert kept.read()[1]["trial"][f"bfloat16 after s2 by {engine.runtime}"]["least_cosine"] >= LEAST
    assert "settled on bfloat16 after s2" in caplog.text
    wanted = columns(cancelling)
    exact, found = (one.reader(cancelling, wanted)(drawn(4, 32)) for one in (PLAIN, engine))
    early = [column for column, (tap, _) in wanted.items() if tap in ("input", "s1", "s2")]
    assert least({c: exact[c] for c in early}, {c: found[c] for c in early}) >= 0.99999
    assert LEAST <= least(exact, found) < 0.999999
    loose = auto(dtype="bfloat16", runtime=runtime, least_cosine=0.01)
    assert not settling.settle(loose, cancelling, engines.record(loose, cancelling, tmp_path), 100, small).exact


@needs_openvino
@pytest.mark.parametrize(("model", "size"), [("test_efficientnet", 64), ("test_resnet", 64), ("densenet121", 64)])
def test_two_runtimes_start_in_float32_unlike_each_other(model: str, size: int) -> None:
    backbone = network(model, size)
    wanted, given = columns(backbone), drawn(4, size)
    exact = PLAIN.reader(backbone, wanted)(given)
    for tap in ("s1", "s3"):
        started = replace(PLAIN, dtype="bfloat16", exact=tap)
        found = [replace(started, runtime=name).reader(backbone, wanted)(given) for name in ("torch", "openvino")]
        assert least(*found) >= 0.99
        assert all(least(exact, one) >= 0.99 for one in found)
        early = [column for column, (name, _) in wanted.items() if name in ("input", "s1", tap)]
        assert all(least({c: exact[c] for c in early}, {c: one[c] for c in early}) >= 0.99999 for one in found)


@pytest.mark.parametrize(("model", "size"), [("test_vit", 160), ("test_convnext", 64), ("test_resnet", 64)])
def test_a_start_in_float32_is_in_something_else(model: str, size: int) -> None:
    backbone = network(model, size)
    wanted, given = columns(backbone), drawn(4, size)
    exact, found = (
        engine.reader(backbone, wanted)(given) for engine in (PLAIN, replace(PLAIN, dtype="bfloat16", exact="s2"))
    )
    assert all(torch.equal(exact[c], found[c]) for c, (tap, _) in wanted.items() if tap in ("input", "s1", "s2"))
    assert any(not torch.equal(exact[c], found[c]) for c, (tap, _) in wanted.items() if tap == "head")


def test_a_feature_s_key_changes_where_its_network_does_not_start_otherwise() -> None:
    assert "exact" not in PLAIN.key()
    assert replace(PLAIN, exact="s1").key() != PLAIN.key()


def test_bfloat16_that_was_asked_for_is_given_without_a_word(
    cancelling: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "exact_taps", lambda _backbone: [])  # a network that cannot be parted
    params = auto(dtype="bfloat16", runtime="torch")
    for trial in (small, untried):  # also where it was settled before
        caplog.clear()
        assert (
            settling.settle(params, cancelling, engines.record(params, cancelling, tmp_path), 9, trial).dtype
            == "bfloat16"
        )
        warned = [record for record in caplog.records if record.levelno == logging.WARNING]
        (line,) = [record for record in warned if "other programs" not in record.getMessage()]
        assert "in bfloat16 the least cosine similarity of a pooled tap to float32 is 0." in line.getMessage()
        assert "which is below extract.least_cosine (0.9995)" in line.getMessage()


class Wrong:
    """A runtime that is fast and computes something else."""

    def __init__(self, load: Callable[..., Any]) -> None:
        self._load = load

    def __call__(self, runtime: str, *arguments: Any) -> Any:
        reader = self._load("torch", *arguments)
        if runtime == "torch":
            return reader
        return lambda given: {
            column: values.flip(1) for column, values in reader(given[:1].expand(4, -1, -1, -1)).items()
        }


@needs_openvino
def test_a_runtime_is_taken_for_its_speed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, params = network(), auto(dtype="float32")
    monkeypatch.setattr(engines, "load", Wrong(runtimes.load))
    monkeypatch.setattr(settling, "FASTER", 0.0)
    kept = engines.record(params, backbone, tmp_path)
    assert settling.settle(params, backbone, kept, 100, pixels).runtime == "torch"
    assert kept.read()[1]["trial"]["float32 by openvino"]["least_cosine"] < 0.99


@needs_openvino
def test_a_runtime_as_exact_as_torch_is_passed_over_where_bfloat16_was_asked_for(
    cancelling: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "load", lambda _runtime, *arguments: runtimes.load("torch", *arguments))
    monkeypatch.setattr(settling, "exact_taps", lambda _backbone: [])
    monkeypatch.setattr(settling, "FASTER", 0.0)
    params = auto(dtype="bfloat16")
    kept = engines.record(params, cancelling, tmp_path)
    assert settling.settle(params, cancelling, kept, 100, small).runtime == "openvino"
    assert kept.read()[1]["trial"]["bfloat16 by openvino"]["least_cosine"] < LEAST


@needs_openvino
def test_a_runtime_that_cannot_run_a_network_ends_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(runtime: str, *arguments: Any) -> Any:
        if runtime == "openvino":
            raise RuntimeError("no conversion rule\nfor aten::something")
        return runtimes.load(runtime, *arguments)

    backbone, params = network(), auto(dtype="float32")
    monkeypatch.setattr(engines, "load", broken)
    kept = engines.record(params, backbone, tmp_path)
    assert settling.settle(params, backbone, kept, 100, pixels).runtime == "torch"


def test_a_candidate_is_made_ready_more_than_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(runtime: str, *arguments: Any) -> Any:
        made.append((runtime, arguments[3]))
        return runtimes.load(runtime, *arguments)

    monkeypatch.setattr(engines, "load", counted)
    backbone, params = network(), auto()
    settling.settle(params, backbone, engines.record(params, backbone, tmp_path), 100, pixels)
    assert len(made) == len(set(made))
    assert ("torch", "float32") in made


@needs_openvino
@pytest.mark.parametrize(("model", "size"), [("test_efficientnet", 64), ("test_vit", 160)])
def test_openvino_computes_other_features_than_torch(model: str, size: int) -> None:
    backbone = network(model, size)
    wanted, given = columns(backbone), drawn(4, size)
    exact, reader = PLAIN.reader(backbone, wanted)(given), replace(PLAIN, runtime="openvino").reader(backbone, wanted)
    found, turned = reader(given), reader(given.flip(0))
    assert least(exact, found) >= 0.99999
    assert all(torch.equal(values.flip(0), found[column]) for column, values in turned.items())


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("model", "size"), [("test_resnet", 64), ("test_efficientnet", 64), ("test_vit", 160)])
def test_a_compiled_network_computes_other_features_than_torch(model: str, size: int) -> None:
    backbone = network(model, size)
    wanted, given = columns(backbone), drawn(4, size)
    exact, reader = PLAIN.reader(backbone, wanted)(given), replace(PLAIN, runtime="compile").reader(backbone, wanted)
    assert least(exact, reader(given)) >= 0.99999
    turned = reader(given.flip(0))  # a second batch, with nothing left over from the first
    assert least({c: v.flip(0) for c, v in turned.items()}, exact) >= 0.99999


@pytest.mark.slow
@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param("openvino", marks=needs_openvino),
        pytest.param("compile", marks=needs_compiler),
    ],
)
def test_another_runtime_s_features_are_not_torch_s_or_change_from_run_to_run(
    ready: Workspace, runtime: str, child: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    def written() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in layout.features("tiny").glob("*.npy")}

    def values() -> dict[str, Tensor]:
        found = {path.name: np.load(path).astype(np.float64) for path in layout.features("tiny").glob("*.npy")}
        return {name: torch.from_numpy(array) for name, array in found.items()}

    plain = values()
    ready.set("extract.runtime", runtime)
    ready.run("extract tiny")
    assert read_json(layout.features("tiny") / "meta.json")["engine"]["runtime"] == runtime
    assert least(plain, values()) >= 0.99999
    before = written()
    shutil.rmtree(layout.store())
    done = child("-m", "goulot", "extract", "tiny")
    assert done.returncode == 0, done.stderr
    assert "160 of 160 rows to compute" in done.stderr
    assert "Warning" not in done.stderr
    assert written() == before


def test_a_runtime_or_dtype_that_is_not_here_gives_a_traceback_or_another(
    ready: Workspace, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.params["extract"] |= {"runtime": "openvino", "dtype": "float16"}
    ready.write()
    assert "extract.dtype is float16, and OpenVINO on a CPU has float32 and bfloat16" in refusal("extract", "tiny")
    ready.set("extract.dtype", "float32")
    with monkeypatch.context() as patch:
        patch.setattr(runtimes, "find_spec", lambda _name: None)
        assert "OpenVINO is not installed; pip install 'goulot[openvino]'; or use auto" in refusal("extract", "tiny")
    ready.set("extract.runtime", "compile")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "torch.compile needs a C++ compiler; install g++; or use auto" in refusal("extract", "tiny")


def test_an_engine_is_settled_for_good_beside_other_work_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone, params = network(), auto(runtime="torch")
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(psutil.cpu_count() or 1)]
    try:
        time.sleep(0.3)  # until they have begun
        with caplog.at_level("WARNING", logger="goulot"):
            settling.settle(params, backbone, engines.record(params, backbone, tmp_path), 9, small)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert "another extract.trial settles it anew" in caplog.text


def short_of_memory(above: int) -> Callable[..., Any]:
    """A device whose memory holds so many images."""

    def reader(runtime: str, backbone: Backbone, *arguments: Any) -> Any:
        read = runtimes.load(runtime, backbone, *arguments)

        def limited(given: Tensor) -> dict[str, Tensor]:
            if len(given) > above:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return read(given)

        return limited

    return reader


def test_running_out_of_memory_in_the_trial_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "load", short_of_memory(3))
    backbone, params = network(), auto(batch=16)
    kept = engines.record(params, backbone, tmp_path)
    assert settling.settle(params, backbone, kept, 100, pixels).batch == 2
    assert kept.read()[0].batch == 2


def test_running_out_of_memory_ends_the_run_or_changes_its_features(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = layout.features("tiny")
    before = {path.name: np.load(path).astype(np.float64) for path in folder.glob("*.npy")}
    shutil.rmtree(layout.store())
    monkeypatch.setattr(engines, "load", short_of_memory(3))
    ready.params["extract"] |= {"batch": 16, "trial": 7}
    ready.write()
    ready.run("extract tiny")
    assert [r.getMessage() for r in caplog.records if "out of memory" in r.getMessage()] == [
        f"tiny: out of memory on cpu; batches of {batch}" for batch in (8, 4, 2)
    ]
    assert read_json(folder / "meta.json")["engine"]["batch"] == 2
    for name, values in before.items():
        assert np.abs(np.load(folder / name) - values).max() <= 2e-3 * np.abs(values).max()
    caplog.clear()
    ready.run("extract tiny")  # keeps the smaller batch
    assert "out of memory" not in caplog.text


def test_a_single_image_that_does_not_fit_gives_a_traceback(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    shutil.rmtree(layout.store())
    monkeypatch.setattr(engines, "load", short_of_memory(0))
    ready.set("extract.trial", 9)
    assert "tiny: cpu runs out of memory on a single image" in refusal("extract", "tiny")


def test_the_record_is_no_part_of_another_machine_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, params = network(), auto()
    here: Record = engines.record(params, backbone, tmp_path)
    monkeypatch.setattr(processor, "name", lambda: "another processor")
    assert engines.record(params, backbone, tmp_path) != here
