"""A workspace of its own for a run whose params differ: a git worktree that shares the DVC cache.

The user's files, `params.yaml` above all, are never touched. The workspace starts as the main checkout is,
with what is not committed; its unchanged outputs come from the cache. It lies in `.goulot/workspaces/` and
is removed when the run ends; if the run's process dies, the next run sweeps it away.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configobj import ConfigObj
from dvc.repo import Repo
from dvc.utils.collections import merge_dicts, remove_missing_keys
from dvc.utils.serialize import ParseError, load_yaml, modify_yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase

from goulot import layout
from pipelines import git, presence, runner
from pipelines.errors import PipelineError
from pipelines.session import IGNORED, RUNS, STATE, WORKSPACES, Session

# What is on its way into a folder of results.
COMING = ".coming-"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A worktree: `tree` is its git root, `root` its DVC root, which may be a folder in it."""

    name: str
    main: Path
    tree: Path
    root: Path
    commit: str


@contextmanager
def isolated(session: Session, overrides: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[Workspace]:
    """Make a workspace with the overrides written into its `params.yaml`; remove it at the end."""
    main, name = session.main, session.name
    commit = git.head(main)
    tree = main / STATE / WORKSPACES / name
    prefix = git.git(main, "rev-parse", "--show-prefix").strip()
    try:
        workspace = Workspace(name=name, main=main, tree=tree, root=tree / prefix, commit=commit)
        _fill(workspace, session, overrides, say)
        yield workspace
    finally:
        remove(main, tree)


def _fill(workspace: Workspace, session: Session, overrides: Mapping[str, Any], say: Callable[[str], None]) -> None:
    main, root = workspace.main, workspace.root
    tree, left_out = git.snapshot(main, IGNORED)
    git.git(main, "worktree", "add", "--detach", "--quiet", str(workspace.tree), workspace.commit)
    git.git(workspace.tree, "restore", f"--source={tree}", "--staged", "--worktree", "--", ":/")
    for path in left_out:
        say(f"left out of the workspace, as it is large and not in git: {path}")
    _share_cache(main, root)
    if overrides:
        override(root / layout.PARAMS, overrides)
    session.root = root
    say(f"workspace {root.relative_to(main)} at {workspace.commit[:8]}; bringing the outputs from the cache")
    # What is not in the cache is what has to run anyway.
    status, tail = runner.run(runner.dvc("checkout", "--allow-missing"), session.place, lambda _line: None)
    if status != 0:
        raise PipelineError("dvc checkout failed in the run's workspace:\n" + "\n".join(tail))


def override(path: Path, overrides: Mapping[str, Any]) -> None:
    """Write the overrides into a `params.yaml`, in the way of `dvc exp run -S`: the same to the last blank.

    DVC's writer takes the quotes from `{weights: "package:x"}` and then cannot read it; such a file is written
    without braces.
    """
    before, wanted = path.read_text(encoding="utf-8"), load_yaml(path)
    merge(wanted, overrides)
    with modify_yaml(path) as params:
        merge_dicts(params, wanted)
        remove_missing_keys(params, wanted)
    if not _reads(path, wanted):
        writer = YAML()
        writer.width = len(before) + 1000
        params = writer.load(before)
        merge_dicts(params, wanted)
        remove_missing_keys(params, wanted)
        _without_braces(params)
        with path.open("w", encoding="utf-8") as file:
            writer.dump(params, file)


def _without_braces(node: Any) -> None:
    if isinstance(node, CommentedBase) and isinstance(node, Mapping | list):
        node.fa.set_block_style()
        for inner in node.values() if isinstance(node, Mapping) else node:
            _without_braces(inner)


def _reads(path: Path, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(load_yaml(path) == wanted)
    except ParseError:
        return False


def merge(document: Any, overrides: Mapping[str, Any]) -> None:
    """Write the overrides into the document in place, section by section.

    A field that is None stands as null. A family is merged entry by entry, and None takes an entry out.
    """
    for name, fields in overrides.items():
        section = document.setdefault(name, {})
        for field, value in fields.items():
            if isinstance(value, Mapping) and isinstance(section.get(field), Mapping):
                _merge_family(section[field], value)
            else:
                section[field] = value


def _merge_family(family: Any, entries: Mapping[str, Any]) -> None:
    for name, value in entries.items():
        if value is None:
            family.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(family.get(name), Mapping):
            _merge_family(family[name], value)
        else:
            family[name] = value


def _share_cache(main: Path, root: Path) -> None:
    """Let the workspace's DVC use the main cache, and keep its own state inside the workspace."""
    with Repo(str(main)) as repo:
        cache = repo.cache.local_cache_dir
    local = main / ".dvc" / "config.local"
    config = ConfigObj(str(local) if local.exists() else None, encoding="utf-8")
    config.setdefault("cache", {})["dir"] = str(cache)
    config.setdefault("core", {})["site_cache_dir"] = str(root / ".dvc" / "tmp" / "site")
    config.filename = str(root / ".dvc" / "config.local")
    config.write()


def remove(main: Path, tree: Path) -> None:
    """Remove a workspace and git's knowledge of it."""
    shutil.rmtree(tree, ignore_errors=True)
    git.git(main, "worktree", "prune")


def sweep(main: Path) -> list[str]:
    """Remove the workspaces of runs whose process is gone, and results half brought back; return the runs' names."""
    places = [*(main / STATE / WORKSPACES).glob("*"), *(main / RUNS).glob(f"{COMING}*")]
    dead = [path for path in places if path.is_dir() and not presence.under_way(main, path.name.removeprefix(COMING))]
    for path in dead:
        remove(main, path)
    return sorted({path.name.removeprefix(COMING) for path in dead})


def bring_back(workspace: Workspace, outs: Mapping[str, str], about: Mapping[str, Any]) -> dict[str, Path]:
    """Copy what a person wants to `runs/<name>/`, whole or not at all; return where each thing now lies."""
    target = workspace.main / RUNS / workspace.name
    fresh = target.with_name(f"{COMING}{workspace.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    found = {name: path for name, path in outs.items() if (workspace.root / path).exists()}
    for name, path in found.items():
        source = workspace.root / path
        if source.is_dir():
            shutil.copytree(source, fresh / name)
        else:
            shutil.copyfile(source, fresh / source.name)
    for extra in ("params.yaml", "dvc.lock"):
        if (workspace.root / extra).exists():
            shutil.copyfile(workspace.root / extra, fresh / extra)
    (fresh / "run.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return {
        name: target / (name if (workspace.root / path).is_dir() else Path(path).name) for name, path in found.items()
    }
