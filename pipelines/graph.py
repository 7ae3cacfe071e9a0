"""`dvc.yaml` as stages, edges and the answer to "does this stage have to run?".

DVC's own index resolves the templates and finds the edges, so containment (a dep that is a parent of
another stage's outs, or lies inside one) is understood exactly as by `dvc repro`. Freshness is decided in
this process with DVC's own checks: a stage that is up to date costs no child process.
"""

import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dvcfile import LOCK_FILE, PROJECT_FILE, load_file
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import PipelineStage
from dvc.utils.serialize import ParseError, load_yaml, modify_yaml

from pipelines.errors import PipelineError

# DVC objects are not made for threads; the stages' tasks are threads.
_one_at_a_time = threading.RLock()


@dataclass(frozen=True, slots=True)
class Stage:
    """What a task needs to know of its stage. Paths are relative to the root of the repository.

    `threads` is how many cores it keeps busy, None where `meta` does not say: one, or for a GPU its share of the cores.
    """

    name: str
    needs: tuple[str, ...]
    outs: tuple[str, ...]
    gpu: bool = False
    retries: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot that `dvc.yaml` defines on columns of a table, or of each in a folder. `template` is its kind."""

    title: str
    template: str
    table: str
    x: str
    y: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The stages to run, each after all it needs, in the order in which `dvc repro` would run them.

    `stale` tells of each stage why it has to run, or None if it is up to date as things stand.
    `locked` lists the stages that `dvc.lock` held when the graph was read, in its order.
    """

    root: Path
    stages: Mapping[str, Stage]
    stale: Mapping[str, str | None]
    locked: tuple[str, ...]
    metrics: tuple[str, ...]
    plots: tuple[Plot, ...]
    pictures: tuple[str, ...]

    def owner(self, path: str) -> str | None:
        """Return the stage that writes the path, None if none of the graph does."""
        for stage in self.stages.values():
            if any(path == out or path.startswith(f"{out}/") for out in stage.outs):
                return stage.name
        return None

    def upstream(self, name: str) -> set[str]:
        """Return all that the stage needs, directly or not."""
        found: set[str] = set()
        queue = list(self.stages[name].needs)
        while queue:
            if (stage := queue.pop()) not in found:
                found.add(stage)
                queue.extend(self.stages[stage].needs)
        return found


EMPTY = Graph(root=Path(), stages={}, stale={}, locked=(), metrics=(), plots=(), pictures=())


def find_root(start: Path | None = None) -> Path:
    """Return the root of the DVC repository around a folder, by default the current one."""
    try:
        return Path(Repo.find_root(str(start or Path.cwd()))).resolve()
    except DvcException as error:
        raise PipelineError(f"{error}; change into a goulot checkout, or call `dvc init` first") from error


def read(root: Path, targets: Iterable[str] = ()) -> Graph:
    """Return the graph of the targets and all they need, by default of every stage."""
    with _opened(root) as repo:
        names = {stage: _name(stage) for stage in repo.index.stages}
        active = get_active_graph(repo.index.graph)
        plan = plan_repro(active, _chosen(names, targets) or None)
        stages = {names[stage]: _describe(stage, active, names) for stage in plan}
        project = load_file(repo, str(root / PROJECT_FILE))
        locked = tuple((load_yaml(root / LOCK_FILE) if (root / LOCK_FILE).exists() else {}).get("stages", {}))
        return Graph(
            root=root,
            stages=stages,
            stale={names[stage]: _why_stale(stage) for stage in plan},
            locked=locked,
            metrics=tuple(dict.fromkeys(_metrics(plan, project.metrics))),
            plots=tuple(_plots(project.plots)),
            pictures=tuple(dict.fromkeys(_pictures(project.plots))),
        )


def stage_names(root: Path) -> list[str]:
    """Return the names of all stages, in the order of `dvc.yaml`."""
    with _opened(root) as repo:
        return [_name(stage) for stage in repo.index.stages]


def why_stale(root: Path, name: str) -> str | None:
    """Look at one stage again, after something it needs has run."""
    with _opened(root) as repo:
        stage = next(stage for stage in repo.index.stages if _name(stage) == name)
        return _why_stale(stage)


def settle_lock_order(graph: Graph) -> None:
    """Put the entries that stages side by side added to `dvc.lock` in the order of `dvc repro`."""
    path = graph.root / LOCK_FILE
    with _opened(graph.root):
        if not path.exists():
            return
        present = list(load_yaml(path).get("stages", {}))
        wanted = [name for name in dict.fromkeys((*graph.locked, *graph.stages, *present)) if name in present]
        if wanted == present:
            return
        # Written beside and moved into place: a run killed now must not leave half a lock file.
        fresh = graph.root / ".dvc" / "tmp" / LOCK_FILE
        shutil.copyfile(path, fresh)
        with modify_yaml(fresh) as data:
            entries = dict(data["stages"])
            data["stages"].clear()
            data["stages"].update({name: entries[name] for name in wanted})
        os.replace(fresh, path)


@contextmanager
def _opened(root: Path) -> Iterator[Repo]:
    """Open the repository under its lock: a stage's process may be writing `dvc.lock`."""
    with _one_at_a_time:
        try:
            repo = Repo(str(root), _wait_for_lock=True)
            with repo, repo.lock:
                yield repo
        except ParseError as error:
            raise PipelineError(str(error)) from error
        except DvcException as error:
            raise PipelineError(f"dvc cannot read the pipeline in {root.name}: {error}") from error


def _name(stage: Any) -> str:
    # Not stage.addressing: that is relative to the current folder, which need not be the root.
    if not isinstance(stage, PipelineStage):
        return str(stage.path_in_repo)
    return stage.name if stage.path_in_repo == PROJECT_FILE else f"{stage.path_in_repo}:{stage.name}"


def _chosen(names: Mapping[Any, str], targets: Iterable[str]) -> list[Any]:
    """Return the stages that the targets name; a family's name stands for all its members."""
    chosen: list[Any] = []
    for target in targets:
        found = [stage for stage, name in names.items() if name == target or name.startswith(f"{target}@")]
        if not found:
            raise PipelineError(f"unknown stage {target!r}; dvc.yaml defines {', '.join(names.values())}")
        chosen.extend(stage for stage in found if stage not in chosen)
    return chosen


def _describe(stage: Any, active: Any, names: Mapping[Any, str]) -> Stage:
    meta = stage.meta if isinstance(stage.meta, dict) else {}
    retries, threads = (_number(names[stage], meta, key, least) for key, least in (("retries", 0), ("threads", 1)))
    if (resource := meta.get("resource")) not in (None, "cpu", "gpu"):
        raise PipelineError(f"{names[stage]}: meta.resource is {resource!r}; allowed are cpu and gpu")
    return Stage(
        name=names[stage],
        needs=tuple(sorted(names[need] for need in active.successors(stage))),
        outs=tuple(_inside(out) for out in stage.outs),
        gpu=resource == "gpu",
        retries=retries,
        threads=threads,
    )


def _number(stage: str, meta: Mapping[str, Any], key: str, least: int) -> int | None:
    """Return a whole number of a stage's `meta`, None where it does not name it."""
    value = meta.get(key)
    # An empty param reaches the stage's definition as an empty text.
    if value is None or value == "":
        return None
    if not isinstance(value, int) or value < least:
        raise PipelineError(f"{stage}: meta.{key} is {value!r}; allowed is {least}, {least + 1}, {least + 2} ...")
    return value


def _inside(item: Any) -> str:
    """Return a dep's or an out's path relative to the root, or as it stands if it lies elsewhere."""
    path, root = Path(item.fs_path), Path(item.repo.root_dir)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _why_stale(stage: Any) -> str | None:
    """Answer like `dvc.stage.Stage.changed`, without its lock file entries and with the reason."""
    if stage.changed_stage():
        return "its command changed"
    if stage.outs and not any(out.hash_info for out in stage.outs):
        return "it has not been run yet"
    if not stage.frozen:
        if stage.is_callback or stage.always_changed:
            return "it is to run always"
        for dep in stage.deps:
            if status := dep.status():
                return _in_words(dep, status)
    for out in stage.outs:
        if status := out.status():
            return _in_words(out, status)
    return None


def _in_words(item: Any, status: Mapping[str, Any]) -> str:
    state = next(iter(status.values()))
    if isinstance(state, Mapping):
        return ", ".join(f"{key} is {word}" for key, word in state.items())
    return f"{_inside(item)} is {state}"


def _metrics(plan: Iterable[Any], declared: Iterable[str]) -> Iterator[str]:
    yield from declared
    for stage in plan:
        yield from (_inside(out) for out in stage.outs if out.metric)


def _plots(declared: Iterable[Any]) -> Iterator[Plot]:
    """Yield the plots that name one table, a column of it for x and one or several for y."""
    for name, definition in _definitions(declared):
        (table, x), (other, y) = (_axis(name, definition.get(axis)) for axis in ("x", "y"))
        if table == other and len(x) == 1 and y:
            template = str(definition.get("template", "linear"))
            yield Plot(str(definition.get("title", name)), template, table, x[0], y)


def _axis(name: str, axis: Any) -> tuple[str, tuple[str, ...]]:
    """Return an axis as a table and columns: a mapping of the two, or columns of the table that names the plot."""
    table, columns = next(iter(axis.items())) if isinstance(axis, Mapping) and len(axis) == 1 else (name, axis)
    named = [columns] if isinstance(columns, str) else columns if isinstance(columns, list) else []
    return str(table), tuple(column for column in named if isinstance(column, str))


def _pictures(declared: Iterable[Any]) -> Iterator[str]:
    """Yield the files that are shown as they are."""
    yield from (name for name, definition in _definitions(declared) if not definition)


def _definitions(declared: Iterable[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of `plots:`, which are names or mappings of a name to its definition."""
    for entry in declared:
        for name, definition in (entry if isinstance(entry, Mapping) else {entry: None}).items():
            yield name, definition or {}
