"""`goulot clean`: old runs and unused stored features, listed with their size, removed when confirmed.

What DVC holds is left to `dvc gc`.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from goulot import layout
from goulot.errors import GoulotError

log = logging.getLogger("goulot")

RUNS = Path("runs")
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can go: a folder, why nothing needs it, and its size."""

    path: Path
    why: str
    size: int


def run(
    *, keep: int = 10, unused_days: float = 30.0, yes: bool = False, ask: Callable[[str], bool] | None = None
) -> list[Item]:
    """List what can go, ask, remove it, and return what was removed.

    Of the runs the newest `keep` stay. Of the feature store goes what no stage has read or written for
    `unused_days`. Without `yes` and without `ask` nothing is removed.
    """
    if keep < 0 or unused_days < 0:
        raise GoulotError(f"keep is {keep} and unused_days is {unused_days}; both must be 0 or more")
    found = [*old_runs(keep), *unused_features(unused_days)]
    for item in found:
        log.info("%9s  %s  (%s)", megabytes(item.size), item.path, item.why)
    if not found:
        log.info("nothing to clean")
        return []
    total = megabytes(sum(item.size for item in found))
    if not yes and not (ask is not None and ask(f"Remove these {len(found)} folders and free {total}?")):
        log.info("nothing was removed; it would free %s", total)
        return []
    for item in found:
        shutil.rmtree(item.path)
    log.info("freed %s", total)
    return found


def old_runs(keep: int) -> Iterator[Item]:
    """The runs in `runs/` but for the newest; what a flow is only just bringing there has a dot before its name."""
    runs = [path for path in RUNS.glob("[!.]*") if path.is_dir()]
    newest_first = sorted(runs, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
    for path in newest_first[keep:]:
        kept = experiment_of(path)
        yield Item(path, f"an old run; {f'it stays in DVC as {kept}' if kept else 'kept nowhere else'}", size_of(path))


def experiment_of(run: Path) -> str | None:
    """The DVC experiment as which the run was kept, if it was."""
    try:
        kept = json.loads((run / "run.json").read_text(encoding="utf-8")).get("experiment")
    except (OSError, ValueError):
        return None
    return str(kept) if kept else None


def unused_features(days: float) -> Iterator[Item]:
    """The keys of the feature store that have not been used for so long."""
    store = layout.store()
    for path in sorted(path for path in store.iterdir() if path.is_dir()) if store.is_dir() else []:
        age = (time.time() - last_use(path)) / DAY_S
        if age >= days:
            yield Item(path, f"features not used for {age:.0f} days", size_of(path))


def last_use(path: Path) -> float:
    """When anything in the folder was last written or, where the system notes it, read."""
    times = (file.stat() for file in [path, *path.rglob("*")])
    return max(max(stat.st_mtime, stat.st_atime if not path.is_dir() else 0.0) for stat in times)


def size_of(path: Path) -> int:
    """The bytes in a folder."""
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e6:,.1f} MB"
