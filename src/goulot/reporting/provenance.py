"""Section: what made this run, so that it can be made again."""

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from goulot import layout, licences, params, processor
from goulot.artifacts import file_sha256, read_json
from goulot.reporting.costs import FAMILIES
from goulot.reporting.page import Listing, Section, Table

PACKAGES = (
    "goulot", "torch", "torchvision", "timm", "openvino", "scikit-learn", "lightgbm", "numpy", "pandas", "pillow",
    "dvc", "prefect",
)  # fmt: skip


def section() -> Section:
    """Settings, weights, versions, revisions and the machine."""
    versions = [("Python", platform.python_version()), *_versions()]
    return Section("Provenance", [], [
        _settings(), _weights(), Listing("Versions", versions), Listing("Revisions", list(_revisions())),
        Listing("Machine", list(_machine())),
    ])  # fmt: skip


def _settings() -> Listing:
    """What differs from the stages' own defaults, as each stage noted when it ran here; else all that is set."""
    rows: list[tuple[str, str]] = []
    whole = False
    for stage, given in params.read().items():
        differs, noted = _noted(stage, given)
        whole |= not noted
        rows += [(f"{stage}.{key}", str(value)) for key, value in leaves(differs)]
    caption = "Settings that differ from the stages' defaults"
    if whole:
        caption += "; of stages that did not run here with these settings, all that params.yaml sets"
    return Listing(caption, rows)


def _noted(stage: str, given: Any) -> tuple[Any, bool]:
    names = [stage]
    if stage in FAMILIES and isinstance(given, Mapping):
        names = [f"{stage}@{name}" for name in given.get(FAMILIES[stage]) or {}]
        if not names:
            return {}, True  # there is nothing that its settings are for
    for name in names:
        path = layout.times(name)
        if path.is_file() and (note := read_json(path)).get("given") == given and "differs" in note:
            return note["differs"], True
    return given, stage == "report"


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """A document's values by their dotted keys."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from leaves(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, "empty" if value is None else value


def _weights() -> Table:
    networks = params.read()["extract"]["backbones"]
    rows = []
    for name in params.members("extract", "backbones"):
        given = networks[name]
        meta = read_json(layout.features(name) / "meta.json")
        source, model = str(given["weights"]), str(given["model"])
        engine = meta["engine"]
        how = " ".join(str(engine[key]) for key in ("device", "runtime", "dtype"))
        how += f" after {engine['exact']}" if engine["exact"] else ""
        rows.append([name, model, source, licences.find(model, source) or "not stated", how, meta["key"]["weights"]])
    header = ["backbone", "network", "weights", "licence", "engine", "SHA-256 of the weights"]
    return Table("Weights of the networks", header, rows)


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _revisions() -> Iterator[tuple[str, str]]:
    revision = _git("rev-parse", "HEAD")
    if revision:
        changed = (_git("status", "--porcelain", "--untracked-files=no") or "").splitlines()
        names = [line.split(maxsplit=1)[1] for line in changed]
        more = f", with uncommitted changes in {', '.join(names[:5])}" if names else ""
        yield "git", revision + more + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    else:
        yield "git", "not in a git repository"
    if experiment := os.environ.get("DVC_EXP_NAME"):
        yield "DVC experiment", experiment
    lock = Path("dvc.lock")
    yield "dvc.lock", f"SHA-256 {file_sha256(lock)} before this stage" if lock.is_file() else "none: run without DVC"
    for file in (layout.PARAMS, layout.MANIFEST, layout.FOLDS, layout.SUBMISSION):
        if file.is_file():
            yield str(file), f"SHA-256 {file_sha256(file)}"


def _machine() -> Iterator[tuple[str, str]]:
    yield "system", platform.platform(terse=True)
    yield "processor", f"{processor.name()}, {psutil.cpu_count()} cores"
    yield "memory", f"{psutil.virtual_memory().total / 2**30:.1f} GiB"
