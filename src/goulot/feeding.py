"""Feeding: the plan's images decoded once each, their views made, handed on in batches as the network takes them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goulot.augmentation import View, after_resize, before_resize, views_of
from goulot.backbones import Backbone
from goulot.engine import Engine
from goulot.images import Shards

BURST = 8  # batches that are decoded before the forward pass on a CPU


class Job(NamedTuple):
    """One image and those of its views that are to be computed."""

    shard: str
    row: int
    image_id: str
    views: list[View]
    names: list[str]  # the views' rows in the store


Decoded = tuple[list[str], list[np.ndarray]]


def jobs(plan: pd.DataFrame, missing: set[str]) -> Iterator[Job]:
    """The images with rows to compute; made one by one, since a competition may have very many."""
    todo = plan[plan["name"].isin(missing)].drop_duplicates("name")
    for image_id, rows in todo.groupby("image_id", sort=False):
        first = rows.iloc[0]
        yield Job(first["shard"], int(first["row"]), str(image_id), views_of(rows), rows["name"].tolist())


def batches(
    backbone: Backbone, engine: Engine, shards: Shards, jobs: Iterable[Job]
) -> Iterator[tuple[list[str], Tensor]]:
    """Yield full batches, uint8 (batch, H, W, 3), decoded by a thread a core; the last one repeats its last row.

    On a GPU, decoding runs ahead. On a CPU both would fight for the cores, so they take turns.
    """
    resize = backbone.preprocessing.resize()

    def pixels(job: Job) -> tuple[list[str], list[np.ndarray]]:
        return job.names, list(_prepare(resize, shards, job))

    names: list[str] = []
    rows: list[np.ndarray] = []
    with ThreadPoolExecutor(engine.threads) as workers:
        decoded = _ahead if engine.device == "cuda" else _bursts
        for more_names, arrays in decoded(workers, pixels, jobs, BURST * engine.batch):
            names += more_names
            rows += arrays
            while len(rows) >= engine.batch:
                yield names[: engine.batch], _stack(rows[: engine.batch])
                names, rows = names[engine.batch :], rows[engine.batch :]
    if rows:
        yield names, _stack(rows + [rows[-1]] * (engine.batch - len(rows)))


def _stack(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows))


def _bursts(
    workers: ThreadPoolExecutor, work: Callable[[Job], Decoded], jobs: Iterable[Job], depth: int
) -> Iterator[Decoded]:
    """Map in order; so many rows are decoded with all cores, then taken, then the next."""
    burst: list[Job] = []
    rows = 0
    for job in jobs:
        burst.append(job)
        rows += len(job.views)
        if rows >= depth:
            yield from list(workers.map(work, burst))
            burst, rows = [], 0
    yield from list(workers.map(work, burst))


def _ahead(
    workers: ThreadPoolExecutor, work: Callable[[Job], Decoded], jobs: Iterable[Job], depth: int
) -> Iterator[Decoded]:
    """Map in order like Executor.map, but at most `depth` results wait in memory."""
    waiting: deque[Future[Decoded]] = deque()
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


def trial(backbone: Backbone, shards: Shards, plan: pd.DataFrame, threads: int) -> Callable[[int], Tensor]:
    """Gives the first rows of the plan as the network's input, uint8 (n, H, W, 3), the last one repeated."""

    def rows(count: int) -> Tensor:
        engine = Engine("cpu", "float32", count, threads)
        first = plan.head(count)
        _, pixels = next(batches(backbone, engine, shards, jobs(first, set(first["name"]))))
        return pixels

    return rows
