"""`goulot compare`: finished runs side by side: settings that differ, scores, and images judged differently.

A run is a git revision, a branch or the name of a DVC experiment; `workspace` is the files at hand. DVC brings the rest
from its cache.
"""

import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from ruamel.yaml import YAML

from goulot import layout, params
from goulot.artifacts import write_table
from goulot.errors import GoulotError
from goulot.reporting import finished, uncertainty
from goulot.reporting.finished import Run
from goulot.reporting.provenance import leaves

log = logging.getLogger("goulot")

WORKSPACE = "workspace"
PARAMS = str(layout.PARAMS)
GONE = object()
BROUGHT = (layout.PARAMS, layout.BLEND, layout.SPLIT, layout.MANIFEST, layout.TARGET)
AT_ONCE = 4


@dataclass(frozen=True)
class Side:
    """A run to compare. errors: how wrong the blend is of each image, out of fold; said: its decisions in words."""

    name: str
    params: dict[str, Any]
    run: Run
    errors: "pd.Series[float]"
    said: "pd.Series[str]"


def run(revisions: Sequence[str], *, rows: int, csv: Path | None = None) -> Iterator[Table]:
    """Tables for the terminal; a single revision is compared with the workspace. All images go to `csv`.

    Raises GoulotError where a revision has no finished run in DVC's cache, or predicts something else.
    """
    names = [*revisions, WORKSPACE] if len(revisions) == 1 else [*revisions]
    with TemporaryDirectory() as place:
        folders = {name: Path() if name == WORKSPACE else Path(place) / str(i) for i, name in enumerate(names)}
        _bring({name: folder for name, folder in folders.items() if name != WORKSPACE})
        sides = [_side(name, folder) for name, folder in folders.items()]
    if WORKSPACE in names and (stages := outdated(params.read())):
        log.warning(
            "workspace: params.yaml was changed since %s ran, so that the scores are of other settings than are shown; "
            "dvc repro first", ", ".join(stages),
        )  # fmt: skip
    for side in sides[1:]:
        if side.run.known.target != sides[0].run.known.target:
            raise GoulotError(f"{side.name} and {sides[0].name} do not predict the same: their classes or tasks differ")
    yield _settings(sides)
    yield _scores(sides)
    images = _images(sides)
    if csv:
        write_table(csv, images)
    yield _judged(sides, images)
    yield _most(images.head(rows))


def _bring(folders: Mapping[str, Path]) -> None:
    def get(name: str, path: Path) -> str:
        out = folders[name] / path
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dvc", "get", ".", str(path), "--rev", name, "--out", str(out)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        told = [line for line in ended.stderr.splitlines() if line.startswith("ERROR:")]
        return (told or ["ERROR: unknown reason"])[0].removeprefix("ERROR: ") if ended.returncode else ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for path in BROUGHT:
            for name, failed in zip(folders, pool.map(get, folders, repeat(path)), strict=True):
                if failed:
                    raise GoulotError(
                        f"{name} has no {path} that DVC could bring ({failed}); "
                        "`dvc exp show` lists the runs that there are"
                    )


def outdated(now: Mapping[str, Any]) -> list[str]:
    """The stages that ran with other settings than params.yaml has now, as far as DVC wrote down what they ran with.

    It keeps those that params.yaml no longer names, whose settings are gone.
    """
    lock = Path("dvc.lock")
    stages = (YAML(typ="safe").load(lock) or {}).get("stages", {}) if lock.is_file() else {}
    return [
        name for name, stage in stages.items()
        if any(_at(now, key) not in (value, GONE) for key, value in stage.get("params", {}).get(PARAMS, {}).items())
    ]  # fmt: skip


def _at(document: Any, key: str) -> Any:
    for part in key.split("."):
        document = document.get(part, GONE) if isinstance(document, Mapping) else GONE
    return document


def _side(name: str, folder: Path) -> Side:
    with contextlib.chdir(folder):
        read = finished.read()
        known, ids = read.known, read.known.images["image_id"]
        if known.target.exclusive:
            errors = 1 - read.p[np.arange(len(known.y)), known.y]
        else:
            spread = known.y.std(axis=0) if known.target.task == "regression" else 1.0
            errors = (np.abs(read.p - known.y) / np.maximum(spread, 1e-12)).mean(axis=1)
        said = [read.said(row) for row in read.guesses]
        return Side(name, params.read(), read, pd.Series(errors, index=ids), pd.Series(said, index=ids))


def _settings(sides: Sequence[Side]) -> Table:
    flat = [dict(leaves(side.params)) for side in sides]
    table = Table("setting", *(side.name for side in sides), title="Settings that differ")
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [str(one.get(key, "-")) for one in flat]
        if len(set(values)) > 1:
            table.add_row(key, *values)
    return table


def _scores(sides: Sequence[Side]) -> Table:
    """The blend by every metric, the learners by the first run's, and what each run gains over the first one."""
    first = sides[0].run
    title = "Cross-validated scores (the blend's are nested); differences to the first run, of the images in both"
    table = Table("", *(side.name for side in sides), title=title)
    for metric in first.shown:
        table.add_row(f"blend: {metric.title}", *(_score(side.run, "blend", metric.name) for side in sides))
    for name in dict.fromkeys(name for side in sides for name in side.run.members):
        table.add_row(f"{name}: {first.metric.title}", *(_score(side.run, name, first.metric.name) for side in sides))
    table.add_row(f"difference: {first.metric.title}", "", *(_difference(sides[0], side) for side in sides[1:]))
    return table


def _score(read: Run, name: str, metric: str) -> str:
    rows = read.board["learner"] == name
    return f"{float(read.board.loc[rows, metric].iloc[0]):.4f}" if rows.any() and metric in read.board else "-"


def _difference(one: Side, other: Side) -> str:
    """Of the first run's metric, with the standard error of a paired bootstrap."""
    metric, known = one.run.metric, one.run.known
    if other.run.metric.decides != metric.decides:
        return "another metric"
    ids = known.images["image_id"]
    rows = other.errors.index.get_indexer(pd.Index(ids))
    both = rows >= 0
    if not both.any():
        return "no image in both"
    y, group = known.y[both], known.images["group"].to_numpy()[both]
    pair = np.stack([one.run.taken[both], other.run.taken[rows[both]]], axis=-1)
    paired = replace(metric, score=lambda y, p: metric.score(y, p[..., 1]) - metric.score(y, p[..., 0]))
    return f"{paired.score(y, pair):+.4f} ± {uncertainty.error(paired, y, pair, group):.4f}"


def _images(sides: Sequence[Side]) -> pd.DataFrame:
    """The images of all runs, those whose errors differ most first: the truth, what each run decided and its error."""
    known = sides[0].run.known
    truth = [sides[0].run.said(row) for row in known.y]
    columns: dict[str, pd.Series[Any]] = {"truth": pd.Series(truth, index=known.images["image_id"])}
    for side in sides:
        columns |= {f"decided by {side.name}": side.said, f"error of {side.name}": side.errors}
    table = pd.DataFrame(columns).dropna().rename_axis("image_id").reset_index()
    errors = table[[f"error of {side.name}" for side in sides]]
    order = (errors.max(axis=1) - errors.min(axis=1)).sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _judged(sides: Sequence[Side], images: pd.DataFrame) -> Table:
    """How many images each run decides otherwise than the first one, for better and for worse."""
    title = f"Decisions on {len(images):,} images, against the first run"
    table = Table("run", "otherwise", "better", "worse", title=title)
    one, truth = images[f"decided by {sides[0].name}"], images["truth"]
    for side in sides[1:]:
        other = images[f"decided by {side.name}"]
        counts = [other != one, (other != one) & (other == truth), (other != one) & (one == truth)]
        table.add_row(side.name, *(f"{int(rows.sum()):,}" for rows in counts))
    return table


def _most(images: pd.DataFrame) -> Table:
    table = Table(title="The images whose errors differ most, out of fold")
    for name in images.columns:
        table.add_column(str(name), no_wrap=name == "image_id", overflow="fold")  # an id that is cut off names nothing
    for row in images.itertuples(index=False):
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    return table
