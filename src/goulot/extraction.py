"""Extraction: many images through a frozen network, decoding beside the forward pass, all taps at once."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goulot.artifacts import atomic
from goulot.augmentation import View, after_resize, before_resize, views_of
from goulot.backbones import Backbone, pool
from goulot.errors import ArtifactError, ParamsError
from goulot.images import Shards
from goulot.progress import track
from goulot.store import Store, digest

log = logging.getLogger("goulot")

SHARD_ROWS = 1024
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Engine:
    """How the forward pass runs. All of it is part of a feature's key: the number of threads changes last bits."""

    device: str
    dtype: str
    batch: int
    threads: int

    def key(self) -> dict[str, str | int]:
        """What a feature's last bits depend on. Every batch has the same size, the last one is filled up."""
        return asdict(self)


def resolve_engine(device: Literal["auto", "cpu", "cuda"], dtype: str, batch: int, threads: int | None) -> Engine:
    """Settle what `auto` means on this machine. Raises ParamsError where CUDA is asked for and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ParamsError("extract.device is cuda, but torch sees no CUDA device here; use auto or cpu")
    place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        fast = place == "cuda" or (torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())
        dtype = "bfloat16" if fast else "float32"
    return Engine(place, dtype, batch, threads or _cores())


def _cores() -> int:
    """The cores this process may use; macOS only knows those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Job(NamedTuple):
    """One image and those of its views that are to be computed."""

    shard: str
    row: int
    image_id: str
    views: list[View]
    names: list[str]  # the views' rows in the store


def row_names(plan: pd.DataFrame) -> list[str]:
    """The store's names for the plan's rows; the plan carries the images' content hashes as `sha256`."""
    return [digest(content, astuple(view)) for content, view in zip(plan["sha256"], views_of(plan), strict=True)]


def extract(backbone: Backbone, engine: Engine, shards: Shards, plan: pd.DataFrame, store: Store,
            poolings: tuple[str, ...]) -> float:  # fmt: skip
    """Compute what the store lacks of the plan's rows; return the seconds that took.

    `plan` has image_id, view, View's fields, sha256, shard, row and `name` (from `row_names`).
    """
    columns = {c: (tap.name, p) for tap in backbone.taps for c, p in tap.poolings(poolings).items()}
    missing = store.missing(plan["name"].tolist(), list(columns))
    jobs = list(_jobs(plan[plan["name"].isin(missing)]))
    count = sum(len(job.views) for job in jobs)
    log.info(
        "%s: %s of %s rows to compute, %s on %s, batches of %d",
        backbone.name,
        f"{count:,}",
        f"{len(plan):,}",
        engine.dtype,
        engine.device,
        engine.batch,
    )
    start = time.monotonic()
    names: list[str] = []
    parts: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    batches = -(-count // engine.batch)
    for batch_names, features in track(
        _forward(backbone, engine, shards, jobs, columns),
        total=batches,
        unit="batches",
        label=f"extract {backbone.name}",
    ):
        names += batch_names
        for column, values in features.items():
            parts[column].append(values)
        if len(names) >= SHARD_ROWS:
            store.add(names, {column: np.concatenate(values) for column, values in parts.items()})
            names, parts = [], {column: [] for column in columns}
    if names:
        store.add(names, {column: np.concatenate(values) for column, values in parts.items()})
    return time.monotonic() - start


def _jobs(plan: pd.DataFrame) -> Iterator[Job]:
    for image_id, rows in plan.groupby("image_id", sort=False):
        unique = rows.drop_duplicates("name")
        first = unique.iloc[0]
        yield Job(first["shard"], int(first["row"]), str(image_id), views_of(unique), unique["name"].tolist())


def _forward(backbone: Backbone, engine: Engine, shards: Shards, jobs: list[Job],
             columns: Mapping[str, tuple[str, str]]) -> Iterator[tuple[list[str], dict[str, np.ndarray]]]:  # fmt: skip
    """Yield the rows' names and their features, float16 (rows, channels) a column, batch by batch."""
    torch.set_num_threads(engine.threads)
    dtype = DTYPES[engine.dtype]
    network = backbone.network.to(engine.device, dtype).to(memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(v, device=engine.device).mul(255).view(1, 3, 1, 1)
        for v in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    for names, pixels in _batches(backbone.preprocessing.resize(), engine, shards, jobs):
        images = pixels.to(engine.device, non_blocking=True).permute(0, 3, 1, 2)  # (B, 3, H, W), channels last
        with torch.inference_mode():
            outputs = network(((images.float() - mean) / std).to(dtype))
            pooled = {c: pool(outputs[tap], p, network.channels_last) for c, (tap, p) in columns.items()}
        yield names, {c: _to_float16(values[: len(names)], backbone.name, c) for c, values in pooled.items()}


def _to_float16(values: Tensor, backbone: str, column: str) -> np.ndarray:
    array = values.to(torch.float16).cpu().numpy()
    if not np.isfinite(array).all():
        raise ArtifactError(
            f"{backbone}: {column} does not fit float16 (largest value {values.abs().max():.3g}); "
            f"features are stored in it; leave that tap out with extract.backbones.{backbone}.taps"
        )
    return array


def _batches(
    resize: Callable[..., Tensor], engine: Engine, shards: Shards, jobs: list[Job]
) -> Iterator[tuple[list[str], Tensor]]:
    """Decode ahead in threads and yield full batches, uint8 (batch, H, W, 3); the last one repeats its last row."""

    def pixels(job: Job) -> list[np.ndarray]:
        return list(_prepare(resize, shards, job))

    names: list[str] = []
    rows: list[np.ndarray] = []
    with ThreadPoolExecutor(engine.threads) as workers:
        for job, arrays in zip(jobs, _ahead(workers, pixels, jobs, 4 * engine.batch), strict=True):
            names += job.names
            rows += arrays
            while len(rows) >= engine.batch:
                yield names[: engine.batch], _stack(rows[: engine.batch])
                names, rows = names[engine.batch :], rows[engine.batch :]
    if rows:
        yield names, _stack(rows + [rows[-1]] * (engine.batch - len(rows)))


def _stack(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows))


def _ahead(
    workers: ThreadPoolExecutor, work: Callable[[Job], list[np.ndarray]], jobs: list[Job], depth: int
) -> Iterator[list[np.ndarray]]:
    """Map in order like Executor.map, but at most `depth` results wait in memory."""
    waiting: deque[Future[list[np.ndarray]]] = deque()
    pending = iter(jobs)
    try:
        for job in islice(pending, depth):
            waiting.append(workers.submit(work, job))
        while waiting:
            yield waiting.popleft().result()
            for job in islice(pending, 1):
                waiting.append(workers.submit(work, job))
    finally:
        for future in waiting:
            future.cancel()


def _prepare(resize: Callable[..., Tensor], shards: Shards, job: Job) -> Iterator[np.ndarray]:
    """All wanted views of an image from one decode, uint8 (H, W, 3)."""
    image = shards.decode(job.shard, job.row, job.image_id)
    done: dict[int, np.ndarray] = {}
    for view in job.views:
        changed = before_resize(image, view)
        if id(changed) not in done:  # turns and flips alone share the resized image
            resized = resize(changed).permute(1, 2, 0).numpy()
            if changed is not image:
                yield after_resize(resized, view)
                continue
            done[id(changed)] = resized
        yield after_resize(done[id(changed)], view)


def assemble(
    backbone: Backbone, plan: pd.DataFrame, store: Store, poolings: tuple[str, ...], folder: Path
) -> dict[str, int]:
    """Write each column as `folder/<column>.npy`, float16 (rows of the plan, channels); return their channels."""
    names = plan["name"].tolist()
    widths = {}
    for tap in backbone.taps:
        for column in tap.poolings(poolings):
            channels = tap.channels(backbone.network.channels_last)
            with atomic(folder / f"{column}.npy") as partial:
                out = np.lib.format.open_memmap(partial, "w+", np.float16, (len(names), channels))
                written = 0
                for places, values in store.read(names, column):
                    out[places] = values
                    written += len(places)
                out.flush()
                del out
                if written != len(names):
                    raise ArtifactError(f"the store lacks {len(names) - written} rows of {backbone.name} {column}")
            widths[column] = channels
    return widths


def costs(backbone: Backbone, widths: Mapping[str, int], poolings: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """What each column costs an image: channels, bytes and multiply-adds from the pixels to its tap."""
    return {
        column: {"channels": widths[column], "bytes": 2 * widths[column], "multiply_adds": tap.multiply_adds}
        for tap in backbone.taps
        for column in tap.poolings(poolings)
    }


def describe(backbone: Backbone, engine: Engine) -> dict[str, object]:
    """What the features were computed with, for `meta.json`."""
    return {"engine": asdict(engine), "key": backbone.key(), "taps": [asdict(tap) for tap in backbone.taps]}
