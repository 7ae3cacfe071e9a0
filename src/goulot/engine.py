"""The engine: on what device, in what precision, in batches of how many and by which runtime a network runs.

It is part of a feature's key, so what `settling` found for a network on a machine is written down and kept until
`extract.trial` is raised: a rerun must not choose anew.
"""

import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from goulot import jpegs, processor, resizing
from goulot.artifacts import digest, read_json, write_json
from goulot.backbones import Backbone, Resizer
from goulot.errors import ArtifactError, ParamsError
from goulot.params import Section
from goulot.runtimes import Reader, Runtime, available, load

log = logging.getLogger("goulot")

Decoder = Literal["threads", "gpu"]


class EngineParams(Section):
    """How the forward pass runs; every `auto` is settled by a trial and kept."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto is the shortest one that is fast here and in which the network's features hold; with one of "
        "16 bits by name the network starts in float32, up to the first depth from which they do",
    )
    least_cosine: float = Field(
        0.9995, gt=0, le=1,
        description="at which features in 16 bits hold: the least cosine similarity of a pooled tap to float32, on a "
        "batch of your images",
    )  # fmt: skip
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
    resizer: Resizer = "pillow"
    decoder: Decoder = "threads"  # of JPEGs
    exact: str = ""  # the depth up to which the network runs in float32 all the same

    def key(self) -> dict[str, Any]:
        """What a feature's last bits depend on. Every batch has the same size, the last one is filled up."""
        found = {field: value for field, value in asdict(self).items() if field != "exact" or value}
        return {**found, "jpegs": jpegs.METHOD} if self.decoder == "gpu" else found

    def reader(self, backbone: Backbone, columns: Mapping[str, tuple[str, str]], gpu: int = 0) -> Reader:
        """The network made ready to give `columns`: by name, a tap and a pooling, or `map` for all of it."""
        device = f"cuda:{gpu}" if self.device == "cuda" else self.device
        return load(self.runtime, backbone, columns, device, self.dtype, self.batch, self.threads, self.exact)

    def readers(self, backbone: Backbone, columns: Mapping[str, tuple[str, str]]) -> list[Reader]:
        """One for each device that shares the work."""
        return [self.reader(backbone, columns, gpu) for gpu in self.gpus() or [0]]

    def gpus(self) -> list[int]:
        """Every GPU like the first, since others round otherwise; none on a CPU."""
        gpus = range(torch.cuda.device_count() if self.device == "cuda" else 0)
        return [gpu for gpu in gpus if torch.cuda.get_device_name(gpu) == torch.cuda.get_device_name(0)]

    def halved(self, backbone: str) -> "Engine":
        """The same with half the batch, for a device that ran out of memory. Raises ParamsError at a single image."""
        resizing.weights.cache_clear()
        torch.cuda.empty_cache()
        if self.batch == 1:
            raise ParamsError(
                f"{backbone}: {self.device} runs out of memory on a single image; end what else uses its memory, "
                f"lower extract.backbones.{backbone}.input_size, or set extract.device: cpu"
            )
        log.warning("%s: out of memory on %s; batches of %d", backbone, self.device, self.batch // 2)
        return replace(self, batch=self.batch // 2)

    def __str__(self) -> str:
        decoded = ", JPEGs decoded on the GPU" if self.decoder == "gpu" else ""
        return (
            f"{self.precision} on {self.device} by {self.runtime}, batches of {self.batch}, {self.threads} threads"
            f"{decoded}"
        )

    @property
    def precision(self) -> str:
        """In words."""
        return f"{self.dtype} after {self.exact}" if self.exact else self.dtype


@dataclass(frozen=True)
class Record:
    """Where the engine that was settled for a network stands written."""

    path: Path

    def read(self) -> tuple[Engine, dict[str, Any]] | None:
        """The engine and what the trial found, None where none was settled yet. Raises ArtifactError where damaged."""
        if not self.path.is_file():
            return None
        try:
            found = read_json(self.path)
            return Engine(**found.pop("engine")), found
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"{self.path} is damaged; remove it, and the engine is settled anew") from error

    def write(self, engine: Engine, why: Mapping[str, Any]) -> Engine:
        """Keep it with what the trial found."""
        write_json(self.path, {"engine": asdict(engine), **why})
        return engine


def record(params: EngineParams, backbone: Backbone, folder: Path) -> Record:
    """The record of a network under these params on this machine."""
    machine = [platform.machine(), processor.name(), torch.__version__, processor.cores(), available()]
    machine += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    wanted = params.model_dump(include=set(EngineParams.model_fields))
    return Record(folder / f"{digest(wanted, backbone.key(), machine)}.json")
