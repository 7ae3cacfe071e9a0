"""What the stages took: seconds and memory as each noted them when it last ran here, and the disk that they hold."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goulot import layout
from goulot.artifacts import read_json
from goulot.params import members

FAMILIES = {"extract": "backbones", "learn": "learners", "finetune": "networks", "prune": "networks"}
ORDER = (
    "fetch", "ingest", "augment", "extract", "audit", "split", "rank", "learn", "finetune", "blend", "review", "submit",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Seconds and memory are None where the stage's output came from the cache."""

    stage: str
    seconds: float | None
    peak_bytes: int | None
    disk_bytes: int


def read() -> list[Cost]:
    """A cost a stage, in the pipeline's order, those off by default after it, and at last the feature store's disk."""
    pruned = [(f"prune@{name}", layout.pruned(name)) for name in members("prune", "networks", least=0)]
    return [_cost(*stage) for stage in [*stages(), *pruned]] + [Cost("store", None, None, size(layout.store()))]


def seconds(stage: str) -> float | None:
    """Of its last run on this machine."""
    note = _note(stage)
    return float(note["seconds"]) if note else None


def stage_of(learner: str) -> str:
    """The stage behind a row of the leaderboard."""
    return learner if learner == "blend" or learner.startswith("finetune@") else f"learn@{learner}"


def stages() -> Iterator[tuple[str, Path]]:
    """Every stage that leads to the report, in the pipeline's order, and the folder that it writes."""
    for stage in ORDER:
        folder = layout.DATA / ("raw" if stage == "fetch" else stage)
        if stage not in FAMILIES:
            yield stage, folder
            continue
        for name in members(stage, FAMILIES[stage], least=0):
            yield f"{stage}@{name}", folder / name


def _cost(stage: str, folder: Path) -> Cost:
    note = _note(stage) or {}
    return Cost(stage, note.get("seconds"), note.get("peak_bytes"), size(folder))


def _note(stage: str) -> dict[str, Any] | None:
    path = layout.times(stage)
    return dict(read_json(path)) if path.is_file() else None


def size(folder: Path) -> int:
    """Of all files in it, in bytes; a file behind a link counts as well, since DVC may link what it keeps."""
    return sum(
        os.stat(os.path.join(place, file)).st_size
        for place, _, files in os.walk(folder, followlinks=True)
        for file in files
    )
