"""Progress that suits the reader: a bar on a terminal, timestamped lines elsewhere."""

import logging
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

ItemT = TypeVar("ItemT")
log = logging.getLogger("goulot")

LINE_EVERY_S = 15.0


class _Bars:
    drawn = True  # but in a process beside which others would draw on the same lines


def show(level: int, *, beside: bool = False) -> None:
    """Send what goulot logs from that level on to stderr, in this process; `beside` others without bars."""
    if beside:
        _Bars.drawn = False
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    log.setLevel(level)


def track(items: Iterable[ItemT], *, total: int, unit: str, label: str) -> Iterator[ItemT]:
    """Yield the items, showing how many of `total` are done, the rate and the time left."""
    if _Bars.drawn and sys.stderr.isatty():
        yield from _bar(items, total=total, unit=unit, label=label)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S and done < total:
            left = (total - done) * (now - start) / done
            log.info("%s: %s of %s %s, %s, %.0f s left", label, f"{done:,}", f"{total:,}", unit,
                     _rate(done, now - start), left)  # fmt: skip
            last = now


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Log what was done in the block and how long it took."""
    start = time.monotonic()
    yield
    log.info("%s in %.1f s", what, time.monotonic() - start)


def _rate(done: int, seconds: float) -> str:
    """How many a second, or how many seconds each."""
    return f"{done / max(seconds, 1e-9):,.0f}/s" if done >= seconds else f"{seconds / done:,.1f} s each"


def _bar(items: Iterable[ItemT], *, total: int, unit: str, label: str) -> Iterator[ItemT]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[clock]}"),
    )
    clock = _Clock(total)
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, rate="", clock=clock)
        for done, item in enumerate(items, start=1):
            yield item
            progress.update(task, advance=1, rate=clock.rate(done))


class _Clock:
    """The time left by the rate so far, counted down between items; until one is done, the time gone.

    rich's own column forgets after 30 s, and so never tells the time left of what takes longer each, such as folds.
    """

    def __init__(self, total: int) -> None:
        self._total, self._start, self._whole = total, time.monotonic(), 0.0

    def rate(self, done: int) -> str:
        """Note how many are done."""
        gone = time.monotonic() - self._start
        self._whole = gone * self._total / done
        return _rate(done, gone)

    def __str__(self) -> str:
        gone = time.monotonic() - self._start
        shown = timedelta(seconds=round(max(self._whole - gone, 0.0) if self._whole else gone))
        return f"{shown} {'left' if self._whole else 'so far'}"


class _Beside:
    held = 0


def beside(held: int) -> None:
    """Note the bytes of memory that processes which this one waited for have held together."""
    _Beside.held = max(_Beside.held, held)


def peak_bytes() -> int:
    """The most memory that this process has held so far, and what those beside it have."""
    return _own_peak() + _Beside.held


def _own_peak() -> int:
    try:  # the kernel's other count, below, begins with what the process that started this one had held
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
