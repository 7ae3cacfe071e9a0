"""Locks: our own, which the system frees when their holder dies, and DVC's, which a killed process leaves."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import make_lock

from pipelines.errors import RunStoppedError

POLL_S = 0.2


class FileLock:
    """An exclusive lock on a file; whoever has the open file, also a child, holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle: int | None = None

    def take(self) -> bool:
        """Take the lock if it is free."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        if not self._is_named(handle):
            # Whoever held it last has removed the file meanwhile: it would lock nobody out.
            os.close(handle)
            return False
        self.handle = handle
        return True

    def _is_named(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def wait(self, stopped: Callable[[], bool] = lambda: False, waiting: Callable[[], None] = lambda: None) -> None:
        """Take the lock, however long it takes; call `waiting` once if it is not free at once."""
        if self.take():
            return
        waiting()
        while not self.take():
            if stopped():
                raise RunStoppedError(f"stopped while waiting for {self.path.name}")
            time.sleep(POLL_S)

    def release(self) -> None:
        """Close the file; the lock is free once every child that was given it has ended."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None

    def __enter__(self) -> "FileLock":
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def clear_stale(root: Path) -> list[str]:
    """Drop what dead processes left in DVC's table of locks; return a line about each.

    DVC itself only looks whether the number of the process is in use. A number that was given anew to another
    program would block the stage for ever.
    """
    folder = root / ".dvc" / "tmp"
    table = folder / "rwlock"
    if not table.exists():
        return []
    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), wait=True):
        try:
            held = json.loads(table.read_text(encoding="utf-8"))
        except ValueError:
            table.unlink()
            return ["removed DVC's table of locks, which a killed process left half-written"]
        kept, dropped = _sift(held)
        if dropped:
            whole = table.with_suffix(".new")
            whole.write_text(json.dumps(kept), encoding="utf-8")
            os.replace(whole, table)
    return [f"cleared a stale DVC lock of process {pid}, which is gone: {cmd}" for pid, cmd in sorted(dropped)]


def _sift(held: dict[str, Any]) -> tuple[dict[str, Any], set[tuple[int, str]]]:
    dropped: set[tuple[int, str]] = set()

    def alive(entry: dict[str, Any]) -> bool:
        if _is_holder(int(entry["pid"]), str(entry["cmd"])):
            return True
        dropped.add((int(entry["pid"]), str(entry["cmd"])))
        return False

    write = {path: entry for path, entry in held.get("write", {}).items() if alive(entry)}
    read = {path: [entry for entry in entries if alive(entry)] for path, entries in held.get("read", {}).items()}
    return {"write": write, "read": {path: entries for path, entries in read.items() if entries}}, dropped


def _is_holder(pid: int, cmd: str) -> bool:
    """Whether the process lives and still is the one that wrote the entry, judged by its arguments."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        arguments = cmd.partition(" ")[2]
        line = " ".join(process.cmdline())
        return line.endswith(arguments) if arguments else cmd in line
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
