"""Settling: what every `auto` of an engine means for a network on this machine, found by a short trial.

One batch of real images goes through the candidates. None is taken on its speed alone: its pooled taps must agree with
those of torch in float32. What was asked for by name is taken, 16 bits after a start in float32 where that makes them
agree; how well they do is said and written down.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from goulot import processor
from goulot.backbones import Backbone
from goulot.engine import Decoder, Engine, EngineParams, Record
from goulot.errors import ParamsError
from goulot.runtimes import Reader, Runtime, exact_taps, unavailable
from goulot.taps import INPUT

log = logging.getLogger("goulot")

EXACT = 0.99999  # least cosine similarity to torch of a pooled tap at which another runtime is taken, in float32 ...
# ... and another decoder of JPEGs: what it makes of colours, which JPEGs keep in half the size, is not wrong but other,
# and all images are decoded alike.
DECODES = 0.995
SLACK = 1.5  # how many times as far from float32 as torch is, where that 16-bit type was asked for by name
FASTER = 1.15  # how much faster than eager torch another runtime must be to be worth another's rounding
COMPILES_S = 60.0  # what torch.compile costs on two cores, in the trial and again in the extraction
COMPILE_GAIN = 0.2  # share of the forward pass that it saves at least
BATCH = {"cpu": 16, "cuda": 256}
TRIES = 3
DECODED = 6  # batches by which decoding is timed, since a thread goes on with the next one while a GPU is busy
BUSY = 0.2  # share of the processor's time that others take, from which a trial may tell nothing of the machine alone

# So many batches of the network's input, uint8 (n, H, W, 3), as that engine makes them; fewer where images are few.
Images = Callable[[Engine, int], list[Tensor]]


def settle(params: EngineParams, backbone: Backbone, kept: Record, rows: int, trial: Images) -> Engine:
    """The engine that `params` asks for: as it was written down, else by a trial that is written down.

    `trial` makes the first rows as an engine takes them. Raises ParamsError for what this machine
    lacks. Where the memory does not suffice the batch is halved.
    """
    if (found := kept.read()) is not None:
        engine, why = found
        _check(engine.runtime, engine.device, engine.dtype)
        _say(backbone.name, engine, why, params.least_cosine)
        return engine
    device = _device(params.device)
    if params.runtime != "auto":
        _check(params.runtime, device, params.dtype)
    _say_if_busy(backbone.name)
    engine = Engine(device, "float32", params.batch or BATCH[device], params.threads or processor.cores())
    while True:
        try:
            settled, why = _Trial(backbone, trial, rows, params.least_cosine).settle(engine, params)
            break
        except torch.OutOfMemoryError:
            pass  # an exception that is being handled holds the tensors of every frame it went through
        engine = engine.halved(backbone.name)
    _say(backbone.name, settled, why, params.least_cosine)
    return kept.write(settled, why)


def _say_if_busy(backbone: str) -> None:
    """Runtimes suffer unlike from what runs beside them, and what is settled now is kept."""
    if (share := psutil.cpu_percent(interval=0.2) / 100) >= BUSY:
        log.warning(
            "%s: other programs take %.0f %% of the processor during the trial of engines, whose finding is kept; once "
            "they are done, another extract.trial settles it anew", backbone, 100 * share,
        )  # fmt: skip


def _say(backbone: str, engine: Engine, why: Mapping[str, Any], least: float) -> None:
    """State the engine, and how far its features are from float32 where that was measured."""
    log.info("%s: settled on %s", backbone, engine)
    about = why.get("trial", {}).get(_name(engine))
    if about is None or engine.dtype == "float32":
        return
    enough = DECODES if engine.decoder == "gpu" else least
    level = logging.INFO if about["least_cosine"] >= enough else logging.WARNING
    log.log(
        level, "%s: in %s the least cosine similarity of a pooled tap to float32 is %.5f (%s)%s", backbone,
        engine.precision, about["least_cosine"], about["column"],
        "" if level == logging.INFO else f", which is below extract.least_cosine ({least})",
    )  # fmt: skip


@dataclass
class _Run:
    """A candidate, made ready once; `columns` of one batch, and how long it takes."""

    reader: Reader
    pixels: Tensor

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """The first pass, which also warms up."""
        return {column: values.cpu() for column, values in self.reader(self.pixels).items()}

    @cached_property
    def seconds(self) -> float:
        """The shortest of a few passes."""
        return _in_turn(self)[0]


class _Trial:
    """One batch of real images through the candidates."""

    def __init__(self, backbone: Backbone, pixels: Images, rows: int, least: float) -> None:
        self._backbone, self._pixels, self._rows, self._enough = backbone, pixels, rows, least
        self._columns = {
            f"{tap.name}.{pooling}": (tap.name, pooling)
            for tap in backbone.known
            if tap.name != INPUT  # no network computes it, and a mean colour may be next to nothing
            for pooling in tap.poolings(("avg", "max")).values()
        }
        self._runs: dict[Engine, _Run] = {}
        self._images: dict[tuple[str, str], Tensor] = {}
        self._why: dict[str, Any] = {"trial": {}}
        self._told = set[str]()

    def settle(self, engine: Engine, params: EngineParams) -> tuple[Engine, dict[str, Any]]:
        """The engine with its autos decided, and what was found."""
        plain = engine
        if params.runtime != "auto":
            engine = replace(engine, runtime=params.runtime)
        if params.dtype != "auto":
            engine = self._started(_in(engine, params.dtype), plain, params.runtime)
        else:
            short = (_in(engine, dtype) for dtype in _short(engine.device))
            engine = next((other for other in short if self._holds(other, plain, plain)), engine)
        if params.runtime == "auto":
            engine = replace(engine, runtime=self._fastest(engine, plain))
        engine = replace(engine, decoder=self._decoder(engine, plain))
        self._agreement(engine, plain)
        return engine, self._why

    def _started(self, engine: Engine, plain: Engine, runtime: str) -> Engine:
        """An engine of 16 bits, in float32 up to the first depth from which its features hold, if not as it is.

        They hold by every runtime that may be taken. Where nothing helps it stays as it is.
        """
        if engine.dtype == "float32":
            return engine
        able = runtime == "openvino" or (runtime == "auto" and not unavailable("openvino", engine.device, engine.dtype))
        for exact in ("", *exact_taps(self._backbone)):
            tried = replace(engine, exact=exact, runtime="torch")  # compiling takes long, and rounds as torch does
            least = self._least(tried, plain)
            if least is None or least < self._enough:
                continue
            other = self._least(replace(tried, runtime="openvino"), plain) if able else least
            if other is None and runtime == "auto":
                other = least  # then it is torch that will be taken
            if other is not None and other >= self._enough:
                return replace(engine, exact=exact)
        return engine

    def _least(self, engine: Engine, plain: Engine) -> float | None:
        """The least agreement, None where the network cannot be run so."""
        try:
            least, column = self._agreement(engine, plain)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a network may take more than one map further, a runtime may lack an operation
            log.info("%s: not in %s: %s", self._backbone.name, _name(engine), " ".join(str(error).split())[:120])
            return None
        self._tell(engine, column, least, self._enough)
        return least

    def _decoder(self, engine: Engine, plain: Engine) -> Decoder:
        """A GPU decodes JPEGs itself where the processor's threads would hold up its forward pass, and it is faster."""
        other = replace(engine, decoder="gpu")
        if engine.device != "cuda" or engine.dtype == "float32" or self._backbone.preprocessing.quick() is None:
            return "threads"
        try:
            self._pixels(other, 1)  # its decoder takes long to start
            threads, gpu = (_seconds(self._pixels, one) for one in (engine, other))
            forward = self._run(engine).seconds
            log.info("%s: a batch takes %.0f ms to decode in %d threads, %.0f ms on the GPU, and %.0f ms to run",
                     self._backbone.name, 1000 * threads, engine.threads, 1000 * gpu, 1000 * forward)  # fmt: skip
            if threads <= FASTER * max(gpu, forward):
                return "threads"
            least, column = self._agreement(other, plain)
            log.info("%s: of JPEGs decoded on the GPU the tap %s has a cosine similarity of %.5f to float32: %s",
                     self._backbone.name, column, least, _word(least >= DECODES))  # fmt: skip
            return "gpu" if least >= DECODES else "threads"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # torchvision may lack it, and says so in errors of many kinds
            log.info("%s: the GPU does not decode: %s", self._backbone.name, " ".join(str(error).split())[:120])
            return "threads"

    def _fastest(self, engine: Engine, plain: Engine) -> Runtime:
        """The runtime with the shortest batch; compiling, which takes long to try, only where it may repay that."""
        eager = self._run(engine).seconds
        work = eager * self._rows / engine.batch
        self._why["forward_s"] = round(work, 1)
        if not unavailable("openvino", engine.device, engine.dtype):
            return "openvino" if self._better(replace(engine, runtime="openvino"), engine, plain) else "torch"
        repays = COMPILE_GAIN * work > 2 * COMPILES_S and not unavailable("compile", engine.device, engine.dtype)
        log.info("%s: %s rows take some %.0f s of forward pass uncompiled: %s", self._backbone.name,
                 f"{self._rows:,}", work, "compiling may repay" if repays else "not compiled")  # fmt: skip
        return "compile" if repays and self._better(replace(engine, runtime="compile"), engine, plain) else "torch"

    def _better(self, other: Engine, engine: Engine, plain: Engine) -> bool:
        """Whether another runtime runs the network, agrees, and is faster."""
        try:
            if not self._holds(other, engine, plain):
                return False
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a runtime raises errors of many kinds for what it cannot convert
            log.info("%s: %s cannot run it: %s", self._backbone.name, other.runtime, " ".join(str(error).split())[:120])
            return False
        eager, seconds = _in_turn(self._run(engine), self._run(other))
        log.info("%s: a batch takes %.0f ms in torch, %.0f ms in %s", self._backbone.name,
                 1000 * eager, 1000 * seconds, other.runtime)  # fmt: skip
        return eager > FASTER * seconds

    def _holds(self, other: Engine, instead: Engine, plain: Engine) -> bool:
        """Whether a candidate's taps agree with float32, or hardly less than those of what would be taken instead."""
        if unavailable(other.runtime, other.device, other.dtype):
            return False
        (least, column), (torch_s, _) = self._agreement(other, plain), self._agreement(instead, plain)
        enough = min(EXACT if other.dtype == "float32" else self._enough, 1 - SLACK * (1 - torch_s))
        self._tell(other, column, least, enough)
        return least >= enough

    def _tell(self, engine: Engine, column: str, least: float, enough: float) -> None:
        """How well a candidate agrees; the same is said once."""
        found = f"in {_name(engine)} the tap {column} has a cosine similarity of {least:.5f} to float32: "
        found += _word(least >= enough)
        if found not in self._told:
            log.info("%s: %s", self._backbone.name, found)
        self._told.add(found)

    def _agreement(self, other: Engine, plain: Engine) -> tuple[float, str]:
        """The least cosine similarity of a row's pooled tap to torch's in float32, and the tap."""
        if other == plain:
            return 1.0, ""
        exact, found = self._run(plain).columns, self._run(other).columns
        least, column = min((_similarity(exact[column], found[column]), column) for column in exact)
        self._why["trial"][_name(other)] = {"least_cosine": round(least, 6), "column": column}
        return least, column

    def _run(self, engine: Engine) -> _Run:
        if engine not in self._runs:
            made = engine.resizer, engine.decoder
            if made not in self._images:
                self._images[made] = self._pixels(engine, 1)[0]
            self._runs[engine] = _Run(engine.reader(self._backbone, self._columns), self._images[made])
        return self._runs[engine]


def _similarity(one: Tensor, other: Tensor) -> float:
    """The least cosine similarity of two rows (B, C); rows that are alike, such as two of zeros, have 1."""
    found = cosine_similarity(one.double(), other.double()).nan_to_num(-1)
    return float(torch.where((one == other).all(1), 1.0, found).min())


def _in_turn(*runs: _Run) -> list[float]:
    """The shortest pass of each, one after the other again and again: what else a machine does slows all alike."""
    passes = [[_timed(run.reader, run.pixels) for run in runs if run.columns] for _ in range(TRIES)]
    return [min(times) for times in zip(*passes, strict=True)]


def _seconds(images: Images, engine: Engine) -> float:
    """What decoding a batch takes, one among several."""
    start = time.perf_counter()
    batches = len(images(engine, DECODED))
    return (time.perf_counter() - start) / batches


def _timed(reader: Reader, pixels: Tensor) -> float:
    start = time.perf_counter()
    for values in reader(pixels).values():
        values.cpu()  # waits for the device
    return time.perf_counter() - start


def _in(engine: Engine, dtype: str) -> Engine:
    """The engine in a precision; what 16 bits round hides how an image was resized, so that it may be done faster."""
    return replace(engine, dtype=dtype, resizer="pillow" if dtype == "float32" else "torch")


def _word(enough: bool) -> str:
    return "exact enough" if enough else "not exact enough"


def _name(engine: Engine) -> str:
    return f"{engine.precision} by {engine.runtime}"


def _check(runtime: Runtime, device: str, dtype: str) -> None:
    if why_not := unavailable(runtime, device, dtype):
        raise ParamsError(f"extract.runtime is {runtime}, but {why_not}; or use auto")


def _device(wanted: str) -> str:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ParamsError("extract.device is cuda, but torch sees no CUDA device here; use auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _short(device: str) -> list[str]:
    """The 16-bit types that are fast on the device, the more exact one first."""
    if device == "cuda":
        return ["float16", "bfloat16"]
    return ["bfloat16"] if processor.computes_bfloat16() else []
