"""What the page shows of a run beside its graph and logs: tables, pictures, links. Only small things."""

import base64
import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from goulot import layout
from pipelines.graph import Graph

ROWS = 100
FIRST_ROWS = 5
PICTURES = 12
PICTURE_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Results:
    """Where a run's submission and report lie for good; None where the run made none."""

    submission: Path | None
    report: Path | None
    experiment: str | None = None


def stage_metrics(root: Path, graph: Graph, stage: str) -> None:
    """Show the numbers that the stage wrote, as `dvc metrics show` lists them."""
    own = [layout.metrics(Path(out)).as_posix() for out in graph.stages[stage].outs]
    declared = [path for path in graph.metrics if graph.owner(path) == stage]
    rows = [
        {"metric": name, "value": short(value)}
        for path in dict.fromkeys([*declared, *own])
        if (root / path).is_file()
        for name, value in numbers(root / path)
    ]
    if rows:
        create_table_artifact(key=key("metrics", stage), table=rows, description=f"Metrics of stage `{stage}`")


def leaderboard(root: Path) -> None:
    """Show the learners and their scores."""
    if rows := table(root / layout.LEADERBOARD, ROWS):
        shown = [{name: short(value) for name, value in row.items()} for row in rows]
        create_table_artifact(key="leaderboard", table=shown, description="The learners and their blend, out of fold")


def plots(root: Path, graph: Graph) -> None:
    """Show the plots and pictures that the pipeline declares, and the pictures beside the report."""
    from pipelines import drawings  # brings matplotlib

    declared = [plot for named in graph.plots for plot in drawings.tables(named, root)]
    shown = [(plot.title, drawing) for plot in declared if (drawing := drawings.drawn(plot, root))]
    files = [root / path for path in dict.fromkeys(_pictures(root, graph))]
    shown += [(file.relative_to(root).as_posix(), file.read_bytes()) for file in files]
    if not shown:
        return
    text = "\n\n".join(f"### {title}\n\n{picture(title, data)}" for title, data in shown[:PICTURES])
    if (left := len(shown) - PICTURES) > 0:
        text += f"\n\n{left} more lie in the workspace."
    create_markdown_artifact(key="plots", markdown=text, description="The key pictures")


def links(main: Path, results: Results) -> None:
    """Link to the submission and to the report."""
    for name, path in (("submission", results.submission), ("report", results.report)):
        if path is not None:
            create_link_artifact(
                key=name,
                link=address(main, path),
                link_text=path.relative_to(main).as_posix(),
                description=f"The {name} of this run",
            )


def summary(main: Path, results: Results, done: Mapping[str, str], seconds: float) -> str:
    """Show how the run ended, and return the text."""
    counts = {how: list(done.values()).count(how) for how in ("completed", "restored", "skipped")}
    lines = [
        f"## {len(done)} stages in {seconds:.0f} s",
        "",
        f"{counts['completed']} ran, {counts['restored']} came from the run cache, "
        f"{counts['skipped']} were up to date.",
    ]
    if results.experiment:
        lines += ["", f"Kept as the DVC experiment `{results.experiment}`: `dvc exp show`."]
    for name, path in (("Report", results.report), ("Submission", results.submission)):
        if path is not None:
            lines += ["", f"{name}: [{path.relative_to(main).as_posix()}]({address(main, path)})"]
    if results.submission is not None:
        lines += ["", *markdown_table(table(results.submission, FIRST_ROWS))]
    text = "\n".join(lines)
    create_markdown_artifact(key="summary", markdown=text, description="How the run ended")
    return text


def key(*parts: str) -> str:
    """Return an artifact's key; only small letters, digits and dashes are allowed."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def address(main: Path, path: Path) -> str:
    """Return where a browser finds the file: at the server of `pipelines.serve`, else on this machine."""
    if base := os.environ.get("GOULOT_FILES_URL"):
        return f"{base}/{quote(path.relative_to(main).as_posix())}"
    return path.as_uri()


def numbers(path: Path) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a metrics file, nested names joined by dots."""
    yield from _numbers("", json.loads(path.read_text(encoding="utf-8")))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for part, inner in value.items():
            yield from _numbers(f"{name}.{part}" if name else str(part), inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def table(path: Path, rows: int) -> list[dict[str, str]]:
    """Return the first rows of a CSV file; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(islice(csv.DictReader(file), rows))


def markdown_table(rows: list[dict[str, str]]) -> list[str]:
    """Return the rows as lines of markdown."""
    if not rows:
        return []
    cells = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]


def picture(title: str, data: bytes) -> str:
    """Return a picture as markdown that holds it whole: the page cannot read this machine's files."""
    from pipelines import drawings

    kind = "png"
    if len(data) > PICTURE_BYTES:
        kind, data = "jpeg", drawings.reduced(data)
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


def short(value: Any) -> Any:
    """Return a number with the digits that a person reads, everything else as it is."""
    try:
        return float(f"{float(value):.4g}") if "." in str(value) else value
    except ValueError:
        return value


def _pictures(root: Path, graph: Graph) -> Iterator[str]:
    for path in [*graph.pictures, *graph.metrics, layout.REPORT.as_posix()]:
        place = root / path
        for file in sorted(place.rglob("*.png")) if place.is_dir() else [place]:
            if file.suffix == ".png" and file.is_file():
                yield file.relative_to(root).as_posix()
