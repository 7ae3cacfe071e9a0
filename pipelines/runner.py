"""A command as a child process that never outlives the flow, with its output as lines."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from pipelines.errors import RunStoppedError, StageFailedError, StageKilledError
from pipelines.lines import Lines

GRACE_S = 1.5
TAIL_LINES = 20
GUARD = Path(__file__).with_name("guard.py")
EXITED = re.compile(r"exited with (-?\d+)")
KILLED = {128 + signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM}

# What DVC says to a person at a terminal and means nothing in a log.
HINTS = re.compile(
    r"^(Use `dvc push`|To (track the changes|enable auto staging)|\s+(git add|dvc config core.autostage))"
)


class Stop:
    """The wish that a run end: set once, it reaches all of the run's children, also those yet to start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wished = False
        self._pipes: set[int] = set()

    def wished(self) -> bool:
        """Whether the run is to end."""
        return self._wished

    def set(self) -> None:
        """Let go of all guards; each then stops its stage."""
        with self._lock:
            self._wished = True
            for pipe in self._pipes:
                os.close(pipe)
            self._pipes.clear()

    def hold(self, pipe: int) -> None:
        """Keep a guard's pipe open until the run is to end."""
        with self._lock:
            if self._wished:
                os.close(pipe)
            else:
                self._pipes.add(pipe)

    def let_go(self, pipe: int) -> None:
        """Close a pipe whose guard has ended."""
        with self._lock:
            if pipe in self._pipes:
                self._pipes.remove(pipe)
                os.close(pipe)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and with what a command runs."""

    root: Path
    env: Mapping[str, str]
    stop: Stop


def environment(root: Path, store: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a stage: this interpreter's scripts first, the workspace's own code first.

    An editable install would run the main checkout's code in another workspace, hence PYTHONPATH.
    """
    paths = [str(root / "src"), *filter(None, [base.get("PYTHONPATH")])]
    kept = {key: value for key, value in base.items() if not key.startswith("PREFECT__")}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "GOULOT_STORE": base.get("GOULOT_STORE") or str(store),
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
    }


def run(
    command: Sequence[str], place: Place, say: Callable[[str], None], *, hand_on: Sequence[int] = ()
) -> tuple[int, list[str]]:
    """Run a command under its guard and pass each line on; return the status and the last lines.

    Raises RunStoppedError if the run ended meanwhile. The open files in `hand_on` are held by the guard.
    """
    if place.stop.wished():
        raise RunStoppedError("the run was stopped")
    reading, writing = os.pipe()
    try:
        guard = subprocess.Popen(
            [sys.executable, "-I", str(GUARD), str(GRACE_S), *command],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=place.root,
            env=dict(place.env),
            pass_fds=hand_on,
            start_new_session=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    place.stop.hold(writing)
    reaper = threading.Thread(target=_reap, args=(guard,), daemon=True)
    reaper.start()
    try:
        tail = _pump(guard, say)
    finally:
        place.stop.let_go(writing)
        reaper.join()
    status = guard.wait()
    if place.stop.wished():
        raise RunStoppedError("the run was stopped")
    return status, tail


def _reap(guard: subprocess.Popen[bytes]) -> None:
    """Wait for the guard; should it have been killed itself, its group is what it has left behind."""
    guard.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(guard.pid, signal.SIGKILL)


def _pump(guard: subprocess.Popen[bytes], say: Callable[[str], None]) -> list[str]:
    lines = Lines()
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with cast(IO[bytes], guard.stdout) as stream:
        while data := os.read(stream.fileno(), 65536):
            _pass_on(lines.feed(data), tail, say)
        _pass_on(lines.end(), tail, say)
    return list(tail)


def _pass_on(lines: Iterator[str], tail: deque[str], say: Callable[[str], None]) -> None:
    for line in lines:
        if not HINTS.match(line):
            tail.append(line)
            say(line)


def dvc(*arguments: str) -> list[str]:
    """Return the command line of this interpreter's DVC, waiting for the locks that others hold."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def reproduce(
    name: str, place: Place, say: Callable[[str], None], *, force: bool = False, hand_on: Sequence[int] = ()
) -> str:
    """Run one stage by DVC; return "completed", "restored" (from the run cache) or "skipped".

    Raises StageFailedError or StageKilledError with the last lines of its log.
    """
    command = dvc("repro", "--single-item", *(["--force"] if force else []), name)
    status, tail = run(command, place, say, hand_on=hand_on)
    if status == 0:
        return _how(name, tail)
    if (signal_number := _killed_by(status, tail)) is not None:
        raise StageKilledError(f"stage {name} was killed ({signal.Signals(signal_number).name}){_shown(tail)}")
    raise StageFailedError(f"stage {name} failed{_shown(tail)}")


def _how(name: str, tail: Sequence[str]) -> str:
    if f"Stage '{name}' didn't change, skipping" in tail:
        return "skipped"
    restored = f"Stage '{name}' is cached - skipping run, checking out outputs" in tail
    return "restored" if restored else "completed"


def _killed_by(status: int, tail: Sequence[str]) -> int | None:
    """Return the signal that ended DVC or the stage's command, None if it ended by itself."""
    codes = [status, *(int(code) for line in tail for code in EXITED.findall(line))]
    killed = next((code for code in codes if code in KILLED), None)
    if killed is None:
        return None
    return killed - 128 if killed > 0 else -killed


def _shown(tail: Sequence[str]) -> str:
    return "; its last lines:\n" + "\n".join(f"    {line}" for line in tail) if tail else " and printed nothing"
