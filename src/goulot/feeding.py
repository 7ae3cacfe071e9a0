"""Feeding: the plan's images decoded once each, their views made, handed on in batches as the network takes them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goulot import jpegs
from goulot.augmentation import View, after_resize, before_resize, views_of
from goulot.backbones import Backbone
from goulot.engine import Engine
from goulot.images import Shards
from goulot.jpegs import Jpeg

PLANNED = 1024  # images whose jobs are made together
BURST = 8  # batches that are decoded before the forward pass on a CPU
# Threads that read files ahead of a GPU, and how many, or how many bytes, each reads at a time ...
READERS, READ, READ_BYTES = 4, 16, 4 * 2**20
AT_ONCE, AT_ONCE_BYTES = 256, 64 * 2**20  # ... where so many are decoded together
AHEAD = 2  # batches, and as many lists that are being decoded, that are ready before a GPU asks for them


class Job(NamedTuple):
    """One image and those of its views that are to be computed."""

    shard: str
    row: int
    image_id: str
    views: list[View]
    names: list[str]  # the views' rows in the store


class Opened(NamedTuple):
    """An image whose file may be a JPEG for the GPU: the views that are then made there, and those of a thread."""

    job: Job
    other: Job
    jpeg: Jpeg | None


Batch = tuple[list[str], Tensor]
Decoded = tuple[list[str], list[np.ndarray] | list[Tensor]]
Work = Callable[[Job], Decoded]
ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")


def jobs(plan: pd.DataFrame, missing: set[str]) -> Iterator[Job]:
    """The images with rows to compute; made some at a time, since a competition may have very many."""
    lacking = np.array([name in missing for name in plan["name"].tolist()], dtype=bool)
    todo = plan[lacking].drop_duplicates("name")
    image = pd.factorize(todo["image_id"])[0]
    order = np.argsort(image, kind="stable")
    starts = np.append(np.flatnonzero(np.diff(image[order], prepend=-1)), len(todo))
    for number in range(0, len(starts) - 1, PLANNED):
        bounds = starts[number : number + PLANNED + 1]
        rows = todo.iloc[order[bounds[0] : bounds[-1]]]
        shards, places, ids, names = (rows[column].tolist() for column in ("shard", "row", "image_id", "name"))
        views = views_of(rows)
        for first, end in pairwise((bounds - bounds[0]).tolist()):
            yield Job(shards[first], places[first], ids[first], views[first:end], names[first:end])


def batches(backbone: Backbone, engine: Engine, shards: Shards, jobs: Iterable[Job]) -> Iterator[Batch]:
    """Yield full batches, uint8 (batch, H, W, 3), decoded by a thread a core; the last one repeats its last row.

    On a GPU, decoding runs ahead. On a CPU both would fight for the cores, so they take turns.
    """
    made = _batches(backbone, engine, shards, jobs)
    return _ahead_of_gpu(made) if engine.device == "cuda" else made


def _batches(backbone: Backbone, engine: Engine, shards: Shards, jobs: Iterable[Job]) -> Iterator[Batch]:
    resize = backbone.preprocessing.resize(engine.resizer)

    def pixels(job: Job) -> Decoded:
        return job.names, list(_prepare(resize, shards, job))

    names: list[str] = []
    rows: list[np.ndarray | Tensor] = []
    with ThreadPoolExecutor(engine.threads) as workers:
        if engine.decoder == "gpu":
            decoded = _by_gpu(workers, pixels, jobs, backbone, engine, shards)
        else:
            decoded = (_ahead if engine.device == "cuda" else _bursts)(workers, pixels, jobs, BURST * engine.batch)
        for more_names, arrays in decoded:
            names += more_names
            rows += arrays
            while len(rows) >= engine.batch:
                yield names[: engine.batch], _stack(rows[: engine.batch], engine)
                names, rows = names[engine.batch :], rows[engine.batch :]
    if rows:
        yield names, _stack(rows + [rows[-1]] * (engine.batch - len(rows)), engine)


def _stack(rows: list[np.ndarray | Tensor], engine: Engine) -> Tensor:
    """One tensor of them all, from where a copy to the GPU goes on by itself, or already there."""
    if engine.decoder == "gpu":
        return torch.stack([row if isinstance(row, Tensor) else _to(engine.device, row) for row in rows])
    stacked = torch.empty((len(rows), *rows[0].shape), dtype=torch.uint8, pin_memory=engine.device == "cuda")
    np.stack(rows, out=stacked.numpy())
    return stacked


def _to(device: str, row: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(row)).to(device)


def _bursts(workers: ThreadPoolExecutor, work: Work, jobs: Iterable[Job], depth: int) -> Iterator[Decoded]:
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


def _ahead(workers: ThreadPoolExecutor, work: Callable[[ItemT], FoundT], items: Iterable[ItemT], depth: int
           ) -> Iterator[FoundT]:  # fmt: skip
    """Map in order like Executor.map, but at most `depth` results wait in memory."""
    waiting: deque[Future[FoundT]] = deque()
    pending = iter(items)
    try:
        for item in islice(pending, depth):
            waiting.append(workers.submit(work, item))
        while waiting:
            yield waiting.popleft().result()
            for item in islice(pending, 1):
                waiting.append(workers.submit(work, item))
    finally:
        for future in waiting:
            future.cancel()


def _by_gpu(workers: ThreadPoolExecutor, work: Work, jobs: Iterable[Job], backbone: Backbone, engine: Engine,
            shards: Shards) -> Iterator[Decoded]:  # fmt: skip
    """JPEGs many at a time on the GPU, their files read ahead; by the workers what it cannot decode, crop or recolour.

    Each view by itself, whichever others of its image are wanted beside it: a view must have one value.
    """
    resize = backbone.preprocessing.products()
    stream = torch.cuda.Stream(priority=-1) if engine.device == "cuda" else None  # type: ignore[no-untyped-call]
    after = torch.cuda.current_stream() if engine.device == "cuda" else None

    def opened(some: list[Job]) -> list[Opened]:
        found = []
        for job in some:
            posed, changed = _parted(job)
            able = posed.views and resize is not None
            jpeg = jpegs.opened(shards.encoded(job.shard, job.row, job.image_id)) if able else None
            found.append(Opened(posed, changed if jpeg else job, jpeg))
        return found

    def decoded(some: list[Opened]) -> Iterator[Decoded]:
        others = [workers.submit(work, one.other) for one in some if one.other.views]
        able = [(one.job, one.jpeg) for one in some if one.jpeg]
        with torch.cuda.stream(stream):
            images = jpegs.decode([jpeg for _, jpeg in able], resize, engine.device) if resize is not None else []
        if stream is not None and after is not None:
            stream.synchronize()
            for image in images:
                if image is not None:
                    image.record_stream(after)  # else its memory may go to the next ones while it is read
        posed = (
            work(job) if image is None else (job.names, [_posed(image, view) for view in job.views])
            for (job, _), image in zip(able, images, strict=True)
        )
        return chain(posed, (future.result() for future in others))

    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as decoder:
        files = _lists(jobs, READ, lambda job: shards.size(job.shard, job.row), READ_BYTES)
        read = chain.from_iterable(_ahead(readers, opened, files, 2 * AT_ONCE // READ))
        lists = _lists(read, AT_ONCE, lambda one: len(one.jpeg.data) if one.jpeg else 0, AT_ONCE_BYTES)
        yield from chain.from_iterable(_ahead(decoder, decoded, lists, AHEAD))


def _lists(items: Iterable[ItemT], length: int, weigh: Callable[[ItemT], int], weight: int) -> Iterator[list[ItemT]]:
    """So many at a time, fewer where they weigh as much."""
    some: list[ItemT] = []
    weighed = 0
    for item in items:
        some.append(item)
        weighed += weigh(item)
        if len(some) == length or weighed >= weight:
            yield some
            some, weighed = [], 0
    if some:
        yield some


def _parted(job: Job) -> tuple[Job, Job]:
    """The views that are turned and flipped alone, and the others."""
    if all(view.posed for view in job.views):
        return job, job._replace(views=[], names=[])
    posed, changed = ([i for i, view in enumerate(job.views) if view.posed is wanted] for wanted in (True, False))
    first, second = (
        job._replace(views=[job.views[i] for i in part], names=[job.names[i] for i in part])
        for part in (posed, changed)
    )
    return first, second


def _posed(image: Tensor, view: View) -> Tensor:
    """What `after_resize` does, on the GPU."""
    turned = torch.rot90(image, view.quarter_turns) if view.quarter_turns else image
    return turned.flip(1) if view.flip else turned


def _ahead_of_gpu(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches, made in a thread and on a stream of their own while the GPU computes the ones before."""
    stream = torch.cuda.Stream(priority=-1)  # type: ignore[no-untyped-call]

    def following() -> Batch | None:
        with torch.cuda.stream(stream):
            batch = next(batches, None)
        stream.synchronize()
        return batch

    with ThreadPoolExecutor(1) as worker:
        waiting = deque(worker.submit(following) for _ in range(AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(worker.submit(following))
            if batch[1].is_cuda:
                batch[1].record_stream(torch.cuda.current_stream())  # else its memory may go to the next batch
            yield batch


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


def trial(backbone: Backbone, shards: Shards, plan: pd.DataFrame) -> Callable[[Engine, int], list[Tensor]]:
    """Gives the first rows of the plan as an engine takes them, uint8 (batch, H, W, 3), the last one repeated.

    As many batches as are asked for, fewer where there are no more.
    """

    def rows(engine: Engine, count: int) -> list[Tensor]:
        first = plan.head(count * engine.batch)
        return [pixels for _, pixels in batches(backbone, engine, shards, jobs(first, set(first["name"])))]

    return rows
