"""Which runs of a checkout are under way: a locked file each, so that a dead run is known by its free lock."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.locks import FileLock

FOLDER = Path(".goulot") / "under-way"


@contextmanager
def announced(main: Path, names: Iterable[str], run_id: str) -> Iterator[str]:
    """Yield the first of the names that no run under way bears; it is this run's until it ends."""
    for name in names:
        lock = FileLock(main / FOLDER / f"{name}.lock")
        if lock.take():
            break
    try:
        lock.path.write_text(run_id, encoding="utf-8")
        yield name
    finally:
        lock.path.unlink(missing_ok=True)
        lock.release()


def under_way(main: Path, name: str) -> bool:
    """Whether a run of that name lives."""
    lock = FileLock(main / FOLDER / f"{name}.lock")
    if not lock.path.exists():
        return False
    free = lock.take()
    lock.release()
    return not free


def gone(main: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the server's id of each run whose process died, and forget it once that is dealt with."""
    for path in sorted((main / FOLDER).glob("*.lock")):
        lock = FileLock(path)
        if lock.take():
            try:
                yield path.stem, path.read_text(encoding="utf-8")
                path.unlink(missing_ok=True)
            finally:
                lock.release()
