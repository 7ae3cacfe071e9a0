"""The engine: on what device, in what precision, in batches of how many, compiled or not, a network runs.

What `auto` means is settled once for a network on a machine, written down beside the feature store and kept until
`extract.trial` is raised: the engine is part of a feature's key, so a rerun must not choose anew.
"""

import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from goulot.artifacts import read_json, write_json
from goulot.backbones import Backbone
from goulot.errors import ParamsError
from goulot.folding import folded
from goulot.params import Section
from goulot.store import digest
from goulot.taps import INPUT, pool

log = logging.getLogger("goulot")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AGREES = 0.9995  # least cosine similarity to float32 of a pooled tap at which a shorter dtype is taken
COMPILES_S = 60.0  # what compiling costs at most on two cores, networks of 150 layers included
COMPILE_GAIN = 0.2  # share of the forward pass that it saves at least, where it does
BATCH = {"cpu": 16, "cuda": 256}


class EngineParams(Section):
    """How the forward pass runs; every `auto` is settled by a trial and kept."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is the shortest one that the hardware has and in which the network's features hold"
    )
    batch: int | None = Field(
        None, ge=1, le=4096, description="images a forward pass; empty means 16 on a CPU, 256 on a GPU"
    )
    threads: int | None = Field(None, ge=1, le=256, description="empty means every core")
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile; auto compiles where the work is long enough to repay it"
    )
    trial: int = Field(0, ge=0, description="raise it to have every auto settled anew")


@dataclass(frozen=True)
class Engine:
    """How the forward pass runs. All of it is part of a feature's key: the number of threads changes last bits."""

    device: str
    dtype: str
    batch: int
    threads: int
    compiled: bool = False

    def key(self) -> dict[str, Any]:
        """What a feature's last bits depend on. Every batch has the same size, the last one is filled up."""
        return asdict(self)

    def __str__(self) -> str:
        how = "compiled" if self.compiled else "eager"
        return f"{self.dtype} on {self.device}, {how}, batches of {self.batch}, {self.threads} threads"


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


def record(params: EngineParams, backbone: Backbone, root: Path) -> Record:
    """The record of a network under these params on this machine, below the feature store's root."""
    machine = [platform.machine(), _processor(), torch.__version__]
    machine += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    name = digest(params.model_dump(include=set(EngineParams.model_fields)), backbone.key(), machine, cores())
    return Record(root / "engines" / f"{name}.json")


def settle(params: EngineParams, backbone: Backbone, kept: Record, rows: int, trial: Callable[[int], Tensor]) -> Engine:
    """The engine that `params` asks for, every `auto` as it was written down, else by a trial that is written down.

    `trial` gives so many rows of the network's input, uint8 (n, H, W, 3). Raises ParamsError for what this machine
    lacks.
    """
    if (engine := kept.read()) is not None:
        return engine
    device = _device(params.device)
    engine = Engine(device, "float32", params.batch or BATCH[device], params.threads or cores())
    why: dict[str, Any] = {}
    if params.dtype != "auto":
        engine = replace(engine, dtype=params.dtype)
    elif candidates := _short(device):
        engine = replace(engine, dtype=_agreeing(engine, candidates, backbone, trial(min(engine.batch, 16)), why))
    if params.compile == "always":
        _check_compiler(device)
        engine = replace(engine, compiled=True)
    elif params.compile == "auto":
        engine = replace(engine, compiled=_repays(engine, backbone, rows, trial, why))
    return kept.write(engine, why)


def cores() -> int:
    """The cores this process may use; macOS only knows those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Reader:
    """A network on its engine: batches of pixels in, what its taps give out."""

    def __init__(self, backbone: Backbone, engine: Engine) -> None:
        torch.set_num_threads(engine.threads)
        self._dtype, self._device = DTYPES[engine.dtype], torch.device(engine.device)
        network = folded(deepcopy(backbone.network), backbone.preprocessing.input_size)
        self._network = network.to(self._device, self._dtype).to(memory_format=torch.channels_last)
        config = backbone.preprocessing
        self._mean, self._std = (
            torch.tensor(values, device=self._device).mul(255).view(1, 3, 1, 1) for values in (config.mean, config.std)
        )
        self._run: Callable[[Tensor], dict[str, Tensor]] = self._network
        if engine.compiled:
            self._run = torch.compile(self._network, dynamic=False, options=_options(engine.device))

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels uint8 (B, H, W, 3) to the output of every tap, on the device; `input` is float32."""
        with torch.inference_mode():
            images = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)  # (B, 3, H, W), channels last
            normalised = (images.float() - self._mean) / self._std
            return {**self._run(normalised.to(self._dtype)), INPUT: normalised}


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


def _agreeing(engine: Engine, candidates: list[str], backbone: Backbone, pixels: Tensor, why: dict[str, Any]) -> str:
    """The first type in which every pooled tap of some real images agrees with float32, else float32."""
    exact = _vectors(backbone, engine, pixels)
    for dtype in candidates:
        found = _vectors(backbone, replace(engine, dtype=dtype), pixels)
        least, column = min((float(cosine_similarity(exact[c], found[c]).nan_to_num(-1).min()), c) for c in exact)
        why[dtype] = {"least_cosine": round(least, 5), "column": column}
        log.info(
            "%s: in %s the tap %s has a cosine similarity of %.4f to float32 on %d images: %s",
            backbone.name, dtype, column, least, len(pixels), "taken" if least >= AGREES else "not exact enough",
        )  # fmt: skip
        if least >= AGREES:
            return dtype
    return "float32"


def _vectors(backbone: Backbone, engine: Engine, pixels: Tensor) -> dict[str, Tensor]:
    outputs = Reader(backbone, engine)(pixels)
    return {
        f"{tap.name}.{pooling}": pool(outputs[tap.name], pooling, tap.kind, tap.prefix).cpu()
        for tap in backbone.known
        for pooling in tap.poolings(("avg", "max")).values()
    }


def _repays(engine: Engine, backbone: Backbone, rows: int, trial: Callable[[int], Tensor], why: dict[str, Any]) -> bool:
    """Whether compiling saves more than it costs, from the time of an eager batch."""
    reader, pixels = Reader(backbone, engine), trial(engine.batch)
    reader(pixels)
    seconds = min(_seconds(reader, pixels) for _ in range(2)) * rows / engine.batch
    compiles = COMPILE_GAIN * seconds > 2 * COMPILES_S and _compiler(engine.device)
    why["eager_forward_s"] = round(seconds, 1)
    log.info(
        "%s: %s rows take some %.0f s of forward pass uncompiled; %s",
        backbone.name, f"{rows:,}", seconds, "compiled" if compiles else "not compiled",
    )  # fmt: skip
    return compiles


def _seconds(reader: Reader, pixels: Tensor) -> float:
    start = time.perf_counter()
    next(iter(reader(pixels).values())).sum().item()  # waits for the device
    return time.perf_counter() - start


def _compiler(device: str) -> bool:
    """What torch.compile needs: a C++ compiler on the CPU, Triton on a GPU."""
    if device == "cuda":
        return torch.utils._triton.has_triton()
    return any(shutil.which(name) for name in ("g++", "clang++", os.environ.get("CXX") or "g++"))


def _check_compiler(device: str) -> None:
    if not _compiler(device):
        need = "Triton" if device == "cuda" else "a C++ compiler (g++)"
        raise ParamsError(f"extract.compile is always, which needs {need}; install it, or use auto or never")


def _options(device: str) -> dict[str, Any]:
    return {"freezing": True} if device == "cpu" else {"triton.cudagraphs": True}


def _processor() -> str:
    """The CPU's name; another one may round otherwise."""
    try:
        lines: Iterator[str] = iter(Path("/proc/cpuinfo").read_text().splitlines())
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
