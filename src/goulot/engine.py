"""The engine: on what device, in what precision, in batches of how many and by which runtime a network runs.

What `auto` means is settled once for a network on a machine, by a short trial, written down and kept until
`extract.trial` is raised: the engine is part of a feature's key, so a rerun must not choose anew.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from goulot.artifacts import digest, read_json, write_json
from goulot.backbones import Backbone
from goulot.errors import ParamsError
from goulot.params import Section
from goulot.runtimes import Reader, Runtime, available, load, unavailable

log = logging.getLogger("goulot")

AGREES = 0.9995  # least cosine similarity to float32 of a pooled tap at which a shorter dtype is taken
FASTER = 1.15  # how much faster than eager torch another runtime must be to be worth another's rounding
COMPILES_S = 60.0  # what torch.compile costs on two cores
COMPILE_GAIN = 0.2  # share of the forward pass that it saves at least
BATCH = {"cpu": 16, "cuda": 256}
TRIES = 3


class EngineParams(Section):
    """How the forward pass runs; every `auto` is settled by a trial and kept."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is the shortest one that is fast here and in which the network's features hold"
    )
    runtime: Literal["auto", "torch", "compile", "openvino"] = Field(
        "auto",
        description="auto is the fastest; compile (torch.compile) only where the work is long enough to repay it",
    )
    batch: int | None = Field(
        None, ge=1, le=4096, description="images a forward pass; empty means 16 on a CPU, 256 on a GPU"
    )
    threads: int | None = Field(None, ge=1, le=256, description="empty means every core")
    trial: int = Field(0, ge=0, description="raise it to have every auto settled anew")


@dataclass(frozen=True)
class Engine:
    """How the forward pass runs. All of it is part of a feature's key: the number of threads changes last bits."""

    device: str
    dtype: str
    batch: int
    threads: int
    runtime: Runtime = "torch"

    def key(self) -> dict[str, Any]:
        """What a feature's last bits depend on. Every batch has the same size, the last one is filled up."""
        return asdict(self)

    def reader(self, backbone: Backbone, columns: Mapping[str, tuple[str, str]]) -> Reader:
        """The network made ready to give `columns`: by name, a tap and a pooling, or `map` for all of it."""
        return load(self.runtime, backbone, columns, self.device, self.dtype, self.batch, self.threads)

    def __str__(self) -> str:
        return f"{self.dtype} on {self.device} by {self.runtime}, batches of {self.batch}, {self.threads} threads"


@dataclass(frozen=True)
class Record:
    """Where the engine that was settled for a network stands written."""

    path: Path

    def read(self) -> Engine | None:
        """The engine, None where none was settled yet."""
        return Engine(**read_json(self.path)["engine"]) if self.path.is_file() else None

    def write(self, engine: Engine, why: Mapping[str, Any]) -> Engine:
        """Keep it with the reasons."""
        write_json(self.path, {"engine": asdict(engine), **why})
        return engine


def record(params: EngineParams, backbone: Backbone, folder: Path) -> Record:
    """The record of a network under these params on this machine."""
    machine = [platform.machine(), _processor(), torch.__version__, cores(), available()]
    machine += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    wanted = params.model_dump(include=set(EngineParams.model_fields))
    return Record(folder / f"{digest(wanted, backbone.key(), machine)}.json")


def settle(params: EngineParams, backbone: Backbone, kept: Record, rows: int, trial: Callable[[int], Tensor]) -> Engine:
    """The engine that `params` asks for: as it was written down, else by a trial that is written down.

    `trial` gives so many rows of the network's input, uint8 (n, H, W, 3). Raises ParamsError for what this machine
    lacks.
    """
    if (engine := kept.read()) is not None:
        return engine
    device = _device(params.device)
    if params.runtime != "auto" and (why_not := unavailable(params.runtime, device)):
        raise ParamsError(f"extract.runtime is {params.runtime}, but {why_not}; or use auto")
    engine = Engine(device, "float32", params.batch or BATCH[device], params.threads or cores())
    return kept.write(*_Trial(backbone, cache(lambda: trial(engine.batch)), rows).settle(engine, params))


def cores() -> int:
    """The cores this process may use; macOS only knows those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Trial:
    """One batch of real images through the candidates."""

    def __init__(self, backbone: Backbone, pixels: Callable[[], Tensor], rows: int) -> None:
        self._backbone, self._pixels, self._rows = backbone, pixels, rows
        self._columns = {
            f"{tap.name}.{pooling}": (tap.name, pooling)
            for tap in backbone.known
            for pooling in tap.poolings(("avg", "max")).values()
        }

    def settle(self, engine: Engine, params: EngineParams) -> tuple[Engine, dict[str, Any]]:
        """The engine with its autos decided, and why."""
        why: dict[str, Any] = {}
        if params.runtime != "auto":
            engine = replace(engine, runtime=params.runtime)
        if params.dtype != "auto":
            engine = replace(engine, dtype=params.dtype)
        elif candidates := _short(engine.device):
            engine = replace(engine, dtype=self._agreeing(engine, candidates, why))
        if params.runtime == "auto":
            engine = replace(engine, runtime=self._fastest(engine, why))
        log.info("%s: settled on %s", self._backbone.name, engine)
        return engine, why

    def _agreeing(self, engine: Engine, candidates: list[str], why: dict[str, Any]) -> str:
        """The first type in which every pooled tap agrees with float32, else float32."""
        exact = self._read(engine)
        for dtype in candidates:
            found = self._read(replace(engine, dtype=dtype))
            least, column = min((float(cosine_similarity(exact[c], found[c]).nan_to_num(-1).min()), c) for c in exact)
            why[dtype] = {"least_cosine": round(least, 5), "column": column}
            log.info(
                "%s: in %s the tap %s has a cosine similarity of %.4f to float32: %s",
                self._backbone.name, dtype, column, least, "taken" if least >= AGREES else "not exact enough",
            )  # fmt: skip
            if least >= AGREES:
                return dtype
        return "float32"

    def _fastest(self, engine: Engine, why: dict[str, Any]) -> Runtime:
        """The runtime with the shortest batch; compiling, which takes long to try, by an estimate."""
        eager = self._seconds(engine)
        work = eager * self._rows / engine.batch
        why["forward_s"] = round(work, 1)
        if not unavailable("openvino", engine.device) and engine.dtype != "float16":
            try:
                other = self._seconds(replace(engine, runtime="openvino"))
            except Exception as error:  # OpenVINO raises RuntimeErrors of several kinds for what it cannot convert
                log.warning("%s: OpenVINO cannot run it: %s", self._backbone.name, " ".join(str(error).split())[:120])
            else:
                log.info("%s: a batch takes %.0f ms in torch, %.0f ms in OpenVINO",
                         self._backbone.name, 1000 * eager, 1000 * other)  # fmt: skip
                return "openvino" if eager > FASTER * other else "torch"
        repays = COMPILE_GAIN * work > 2 * COMPILES_S and not unavailable("compile", engine.device)
        log.info("%s: %s rows take some %.0f s of forward pass uncompiled: %s", self._backbone.name,
                 f"{self._rows:,}", work, "compiling repays" if repays else "not compiled")  # fmt: skip
        return "compile" if repays else "torch"

    def _read(self, engine: Engine) -> dict[str, Tensor]:
        return {
            column: values.cpu()
            for column, values in engine.reader(self._backbone, self._columns)(self._pixels()).items()
        }

    def _seconds(self, engine: Engine) -> float:
        reader = engine.reader(self._backbone, self._columns)
        reader(self._pixels())
        return min(_timed(reader, self._pixels()) for _ in range(TRIES))


def _timed(reader: Reader, pixels: Tensor) -> float:
    start = time.perf_counter()
    for values in reader(pixels).values():
        values.cpu()  # waits for the device
    return time.perf_counter() - start


def _device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ParamsError("extract.device is cuda, but torch sees no CUDA device here; use auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _short(device: str) -> list[str]:
    """The 16-bit types that are fast on the device, the more exact one first."""
    if device == "cuda":
        return ["float16", "bfloat16"]
    fast = torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ["bfloat16"] if fast else []


def _processor() -> str:
    """The CPU's name; another one may round otherwise."""
    try:
        lines: Iterator[str] = iter(Path("/proc/cpuinfo").read_text().splitlines())
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
