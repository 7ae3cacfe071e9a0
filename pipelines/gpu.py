"""GPU slots: a stage with `meta: {resource: gpu}` holds one of the machine's N.

A slot is a locked file in a folder of this user and machine, so that it counts between runs, checkouts and
workspaces. The stage's guard process is handed the open file: the slot is free at the very moment at which
the stage's last process is gone, however it went. (A concurrency limit of the server would be freed minutes
later.)
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

from platformdirs import user_state_path

from pipelines.errors import PipelineError, RunStoppedError
from pipelines.locks import POLL_S, FileLock


@dataclass(frozen=True, slots=True)
class Slot:
    """A held slot: the lock to hand on, and what to tell the stage."""

    lock: FileLock
    env: dict[str, str]


def slots_here() -> int:
    """Return how many stages may use a GPU at a time: GOULOT_GPU_SLOTS, else one a GPU, at least one."""
    if (wanted := os.environ.get("GOULOT_GPU_SLOTS")) is None:
        return max(1, len(gpus_here()))
    if not wanted.isdecimal() or int(wanted) < 1:
        raise PipelineError(f"GOULOT_GPU_SLOTS is {wanted!r}; allowed is a whole number from 1; unset it for one a GPU")
    return int(wanted)


def gpus_here() -> list[str]:
    """Return the NVIDIA GPUs that stages may see, as CUDA_VISIBLE_DEVICES names them, which chooses where it is set."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return list(takewhile(lambda gpu: gpu not in ("", "-1"), map(str.strip, chosen.split(","))))
    return [str(number) for number in range(_installed())]


@cache
def _installed() -> int:
    if (tool := shutil.which("nvidia-smi")) is None:
        return 0
    try:
        shown = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return 0
    return len(re.findall(r"^GPU \d+:", shown.stdout, re.MULTILINE))


def folder() -> Path:
    """Return where the slots' files lie; homes may be shared between machines, so the host is part of it."""
    if chosen := os.environ.get("GOULOT_SLOT_DIR"):
        return Path(chosen)
    return user_state_path("goulot") / "slots" / socket.gethostname()


@contextmanager
def slot(stopped: Callable[[], bool], say: Callable[[str], None]) -> Iterator[Slot]:
    """Hold one slot; on leaving, this process lets go of it, a guard that was handed it only when it ends."""
    count = slots_here()
    locks = [FileLock(folder() / f"gpu-{number}.lock") for number in range(count)]
    number = _first_free(locks)
    if number is None:
        say(f"waiting for a GPU slot ({count} on this machine, all taken)")
    while number is None:
        if stopped():
            raise RunStoppedError("stopped while waiting for a GPU slot")
        time.sleep(POLL_S)
        number = _first_free(locks)
    try:
        yield Slot(locks[number], _device(number))
    finally:
        locks[number].release()


def _first_free(locks: list[FileLock]) -> int | None:
    return next((number for number, lock in enumerate(locks) if lock.take()), None)


def _device(number: int) -> dict[str, str]:
    """Return the environment that shows the stage one GPU, where there are several."""
    gpus = gpus_here()
    return {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if len(gpus) > 1 else {}
