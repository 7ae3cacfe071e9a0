"""Extraction: many images through a frozen network, one decode for all views, one forward pass for all taps."""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, astuple, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goulot import feeding, maps
from goulot.artifacts import atomic, blank_array, digest
from goulot.augmentation import views_of
from goulot.backbones import Backbone
from goulot.engine import Engine, Record
from goulot.errors import ArtifactError
from goulot.images import Shards
from goulot.progress import track
from goulot.runtimes import Reader
from goulot.store import VECTORS, Store
from goulot.taps import Tap

log = logging.getLogger("goulot")

SHARD_ROWS = 1024  # rows of a shard, of which a killed run computes two again at most ...
SHARD_BYTES = 64 * 2**20  # ... and the memory that maps take before they are written


@dataclass(frozen=True)
class Wanted:
    """What is kept of a network's outputs: vectors by pooling, and whole maps in one form."""

    vectors: dict[str, tuple[Tap, str]]  # by column
    whole: dict[str, Tap]
    form: maps.Form

    @classmethod
    def of(cls, backbone: Backbone, poolings: tuple[str, ...], form: maps.Form) -> "Wanted":
        """What the backbone's taps and maps give."""
        vectors = {c: (tap, p) for tap in backbone.taps for c, p in tap.poolings(poolings).items()}
        return cls(vectors, {f"{tap.name}.map": tap for tap in backbone.maps}, form)

    def parts(self) -> dict[str, list[str]]:
        """The store's parts and their columns."""
        return {VECTORS: list(self.vectors), **{f"{column}.{self.form}": [column] for column in self.whole}}

    def columns(self) -> dict[str, tuple[str, str]]:
        """What a reader gives: by column, the tap and its pooling or `map`."""
        vectors = {column: (tap.name, pooling) for column, (tap, pooling) in self.vectors.items()}
        return {**vectors, **{column: (tap.name, "map") for column, tap in self.whole.items()}}

    def sent(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch's columns on their way from a GPU, in the type that is kept, to memory it writes to by itself."""
        exact = set(self.whole) if self.form == "int8" else set()
        return {
            column: values.to(torch.float32 if column in exact else torch.float16).to("cpu", non_blocking=True)
            for column, values in outputs.items()
        }

    def take(self, outputs: Mapping[str, Tensor], rows: int, backbone: str) -> dict[str, np.ndarray | list[bytes]]:
        """The first rows of a batch: vectors float16 (rows, channels), maps as bytes."""
        return {
            column: self._encoded(values[:rows], backbone, column)
            if column in self.whole
            else _to_float16(values[:rows], backbone, column)
            for column, values in outputs.items()
        }

    def _encoded(self, values: Tensor, backbone: str, column: str) -> list[bytes]:
        """Whole maps as bytes; half precision has a largest value, 8 bits with a scale only must be finite."""
        if self.form == "float16":
            return maps.encode(_to_float16(values, backbone, column), self.form)
        array = values.float().cpu().numpy()
        if not np.isfinite(array).all():
            raise ArtifactError(f"{backbone}: {column} has values that are not finite; its weights or dtype do not do")
        return maps.encode(array, self.form)


def row_names(plan: pd.DataFrame) -> list[str]:
    """The store's names for the plan's rows; the plan carries the images' content hashes as `sha256`."""
    return [digest(content, astuple(view)) for content, view in zip(plan["sha256"], views_of(plan), strict=True)]


def extract(backbone: Backbone, engine: Engine, kept: Record, shards: Shards, plan: pd.DataFrame, root: Path,
            wanted: Wanted) -> tuple[Engine, dict[str, Store], float | None]:  # fmt: skip
    """Compute what the store lacks of the plan's rows.

    Returns the engine that did it, the store's parts, which now hold every row, and how many rows a second it took;
    None where nothing was to be done.

    `plan` has image_id, view, View's fields, sha256, shard, row and `name` (from `row_names`). Where the device's
    memory does not suffice the batch is halved, which is written down as the engine's.
    """
    while True:
        parts = {part: Store(root, {**backbone.key(), **engine.key()}, part) for part in wanted.parts()}
        with suppress(torch.OutOfMemoryError):
            return engine, parts, _extract(backbone, engine, shards, plan, parts, wanted)
        # Here, since an exception that is being handled holds the tensors of every frame it went through.
        _, why = kept.read() or (engine, {})
        engine = kept.write(engine.halved(backbone.name), {**why, "out_of_memory_at": engine.batch})


def _extract(backbone: Backbone, engine: Engine, shards: Shards, plan: pd.DataFrame, parts: dict[str, Store],
             wanted: Wanted) -> float | None:  # fmt: skip
    names, columns = plan["name"].tolist(), wanted.parts()
    writers = [Writer(store, store.missing(names, columns[part])) for part, store in parts.items()]
    missing = set().union(*(writer.rows() for writer in writers))
    log.info(
        "%s: %s of %s rows to compute, %s", backbone.name, f"{len(missing):,}", f"{len(plan):,}", engine
    )  # fmt: skip
    if not missing:
        return None
    readers = engine.readers(backbone, wanted.columns())
    start = time.monotonic()
    batches = feeding.batches(backbone, engine, shards, feeding.jobs(plan, missing))
    with ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
        for names, outputs in track(
            forward(readers, engine, batches, wanted),
            total=-(-len(missing) // engine.batch),
            unit="batches",
            label=f"extract {backbone.name}",
        ):
            taken = wanted.take(outputs, len(names), backbone.name)
            for writer in writers:
                writer.add(names, taken)
    seconds = time.monotonic() - start
    speed = len(missing) / max(seconds, 1e-9)
    log.info("extracted %s: %s rows in %.0f s (%.0f rows/s)", backbone.name, f"{len(missing):,}", seconds, speed)
    return speed


class Writer:
    """Gathers rows of one part of the store and keeps what is missing, no more.

    It writes a shard at a time, in a thread, so that a GPU need not wait; at the end of its context all are written.
    """

    def __init__(self, store: Store, missing: dict[str, set[str]]) -> None:
        self._store, self._missing = store, missing
        distinct = list({id(rows): rows for rows in missing.values()}.values())
        self._lacking = distinct[0] if len(distinct) == 1 else set().union(*distinct)
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._thread:
            if error is None:
                self._flush()
                self._wait()

    def rows(self) -> set[str]:
        """The rows that lack a column."""
        return self._lacking

    def add(self, names: list[str], taken: Mapping[str, np.ndarray | list[bytes]]) -> None:
        """Gather a batch; write where that fills a shard."""
        self._names += names
        for column, batches in self._batches.items():
            values = taken[column]
            batches.append(values)
            self._bytes += values.nbytes if isinstance(values, np.ndarray) else sum(map(len, values))
        if len(self._names) >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._wait()
        self._writing = self._thread.submit(self._write, self._names, self._batches)
        self._clear()

    def _wait(self) -> None:
        """For the shard before, whose errors are raised here: one is written while the next is gathered, no more."""
        if self._writing is not None:
            self._writing.result()

    def _write(self, names: list[str], batches: dict[str, list[Any]]) -> None:
        """Write what was gathered: the rows that lack a column, and the columns that any of them lacks."""
        lacking = self.rows()
        keep = [i for i, name in enumerate(names) if name in lacking]
        kept = [names[i] for i in keep]
        columns = {c: _join(b, keep) for c, b in batches.items() if not self._missing[c].isdisjoint(kept)}
        if keep:
            self._store.add(kept, columns)

    def _clear(self) -> None:
        self._names: list[str] = []
        self._batches: dict[str, list[Any]] = {column: [] for column in self._missing}
        self._bytes = 0


def _join(batches: list[Any], keep: list[int]) -> np.ndarray | list[bytes]:
    if isinstance(batches[0], np.ndarray):
        return np.concatenate(batches)[keep]
    rows = [row for batch in batches for row in batch]
    return [rows[i] for i in keep]


def forward(
    readers: list[Reader], engine: Engine, batches: Iterable[tuple[list[str], Tensor]], wanted: Wanted
) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
    """Yield the rows' names and the outputs of the taps, in order.

    GPUs take batches in turn, and each computes one while what came of the one before is taken.
    """
    if engine.device == "cpu":
        yield from ((names, reader(pixels)) for (names, pixels), reader in zip(batches, cycle(readers)))
        return
    waiting: deque[tuple[list[str], dict[str, Tensor], torch.cuda.Event]] = deque()
    # Not the default stream, with which those of a library may wait in turn.
    streams = [torch.cuda.Stream(gpu) for gpu, _ in zip(engine.gpus(), readers, strict=False)]  # type: ignore[no-untyped-call]

    def arrived() -> tuple[list[str], dict[str, Tensor]]:
        names, outputs, event = waiting.popleft()
        event.synchronize()
        return names, outputs

    for (names, pixels), reader, stream in zip(batches, cycle(readers), cycle(streams)):
        with torch.cuda.stream(stream):
            if pixels.is_cuda:
                pixels.record_stream(stream)  # else its memory may go to a batch that is decoded meanwhile
            waiting.append((names, wanted.sent(reader(pixels)), stream.record_event()))
        if len(waiting) > len(readers):
            yield arrived()
    while waiting:
        yield arrived()


def _to_float16(values: Tensor, backbone: str, column: str) -> np.ndarray:
    array = values.to(torch.float16).cpu().numpy()
    if not np.isfinite(array).all():
        raise ArtifactError(
            f"{backbone}: {column} does not fit float16, in which features are stored: a value is beyond 65,504 or no "
            f"number; leave that tap out with extract.backbones.{backbone}.taps"
        )
    return array


def assemble(names: list[str], vectors: Store, wanted: Wanted, folder: Path) -> dict[str, int]:
    """Write each column of vectors as `folder/<column>.npy`, float16 (plan's rows, channels); return their channels."""
    widths = {column: tap.channels for column, (tap, _) in wanted.vectors.items()}
    for column, channels in widths.items():
        with atomic(folder / f"{column}.npy") as partial:
            out = blank_array(partial, np.float16, (len(names), channels))
            written = 0
            for _, places, values in vectors.read(names, [column]):
                out[places] = values
                written += len(places)
            out.flush()
            del out
            if written != len(names):
                raise ArtifactError(f"the feature store lacks {len(names) - written} of {len(names)} rows of {column}")
    return widths


def map_bytes(names: list[str], parts: Mapping[str, Store], wanted: Wanted) -> dict[str, float]:
    """What a row of each map takes in the store, in bytes, on average."""
    sizes = {}
    for part, columns in wanted.parts().items():
        for column in set(columns) & set(wanted.whole):
            blobs = parts[part].locate(names, column)
            sizes[column] = sum(len(blobs[row]) for row in range(len(blobs))) / len(blobs)
    return sizes


def costs(wanted: Wanted) -> dict[str, dict[str, int]]:
    """What each vector costs an image: channels, bytes and multiply-adds from the pixels to its tap."""
    return {
        column: {"channels": tap.channels, "bytes": 2 * tap.channels, "multiply_adds": tap.multiply_adds}
        for column, (tap, _) in wanted.vectors.items()
    }


def map_costs(wanted: Wanted, sizes: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """What each map is and costs an image: its shape (channels, height, width), form and mean bytes."""
    return {
        column: {
            "shape": [tap.channels, *tap.side], "form": wanted.form, "bytes": round(sizes[column]),
            "plain_bytes": 2 * tap.channels * tap.side[0] * tap.side[1], "multiply_adds": tap.multiply_adds,
        }
        for column, tap in wanted.whole.items()
    }  # fmt: skip


def describe(backbone: Backbone, engine: Engine) -> dict[str, object]:
    """What the features were computed with, for `meta.json`."""
    key = backbone.key()
    taps = [asdict(tap) for tap in backbone.taps]
    return {"engine": asdict(engine), "key": key, "store": {**key, **engine.key()}, "taps": taps}
