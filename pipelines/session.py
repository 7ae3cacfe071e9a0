"""The run-time state of the runs in this process.

It stands apart from the flows because Prefect sends a served flow to its process by pickling it with the
globals of its module, and locks and events cannot be pickled. Tasks are given a session's key only.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines import gpu, locks, runner
from pipelines.graph import EMPTY, Graph, why_stale
from pipelines.places import Places

STATE = ".goulot"
RUNS = "runs"
WORKSPACES = "workspaces"
IGNORED = (f"{STATE}/", f"{RUNS}/")


@dataclass(slots=True)
class Session:
    """One run: where it works, what is to be done, who is at it."""

    main: Path
    name: str
    stop: runner.Stop
    places: Places
    force: bool = False
    root: Path = Path()
    graph: Graph = field(default_factory=lambda: EMPTY)
    alone: Callable[[str], str] = lambda stage: f"dvc repro --single-item {stage}"
    done: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> runner.Place:
        """Where and with what the run's commands run."""
        store = self.main / STATE / "store"
        return runner.Place(self.root, runner.environment(self.root, store), self.stop)

    def why_stale(self, stage: str) -> str | None:
        """Say why a stage whose needs are met has to run, None if it is up to date.

        What was found when the graph was read holds until something that the stage needs has done anything.
        """
        if self.force:
            return "it is forced"
        touched = any(self.done.get(need) != "skipped" for need in self.graph.upstream(stage))
        return why_stale(self.root, stage) if touched else self.graph.stale[stage]

    def reproduce(self, stage: str, say: Callable[[str], None]) -> str:
        """Run a stage when its places and, if it wants one, a GPU slot are free; return how it ended."""
        wants = self.graph.stages[stage]
        with ExitStack() as held:
            place, hand_on, seats = self.place, [], wants.threads
            if wants.gpu:
                # Taken first: who waits for a GPU keeps no core from others.
                slot = held.enter_context(gpu.slot(self.stop.wished, say))
                place = runner.Place(place.root, {**place.env, **slot.env}, place.stop)
                hand_on = [handle for handle in [slot.lock.handle] if handle is not None]
                seats = seats or max(1, self.places.count // gpu.slots_here())
            held.enter_context(self.places.held(seats or 1, self.stop.wished, say))
            for line in locks.clear_stale(self.root):
                say(line)
            return runner.reproduce(stage, place, say, force=self.force, hand_on=hand_on)


_sessions: dict[str, Session] = {}


@contextmanager
def opened(main: Path, name: str, *, side_by_side: int, force: bool) -> Iterator[Session]:
    """Keep a session under its name for the length of a run; however that ends, its children end with it."""
    session = Session(
        main=main,
        name=name,
        stop=runner.Stop(),
        places=Places(side_by_side or cores()),
        force=force,
        root=main,
    )
    _sessions[name] = session
    try:
        yield session
    finally:
        session.stop.set()
        _sessions.pop(name, None)


def cores() -> int:
    """Return how many cores this process may use; macOS only knows those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def of(name: str) -> Session:
    """Return the session of a run of this process."""
    return _sessions[name]
