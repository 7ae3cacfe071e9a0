"""Section: what came out, how far it can be trusted, and what it cost."""

from collections.abc import Iterator, Sequence

import pandas as pd

from goulot import layout
from goulot.artifacts import read_table
from goulot.reporting import charts
from goulot.reporting.costs import Cost, seconds, stage_of
from goulot.reporting.finished import Run
from goulot.reporting.page import Block, Chart, Section, Table, Tiles

REASONS = 8


def lead(run: Run) -> str:
    """The blend's score by the chosen metric, in a sentence."""
    judged = run.judged["blend"]
    low, high = min(judged.by_fold.values()), max(judged.by_fold.values())
    return (
        f"The blend's nested cross-validated {run.metric.title} is {run.score('blend', run.metric):.4f} "
        f"± {judged.error:.4f} ({'more' if run.metric.greater_is_better else 'less'} is better; "
        f"folds from {low:.4f} to {high:.4f})."
    )


def section(run: Run, costs: Sequence[Cost]) -> Section:
    """Tiles, the leaderboard, what was set aside, and time and disk by stage."""
    aside = list(_aside())
    blocks = [_tiles(run, costs), _leaderboard(run), _intervals(run), _costs(costs), *aside]
    return Section("Overview", [] if aside else ["No image was set aside."], blocks)


def _tiles(run: Run, costs: Sequence[Cost]) -> Tiles:
    error = run.judged["blend"].error
    scores = [
        (metric.title, f"{run.score('blend', metric):.4f}", f"± {error:.4f}" if metric.name == run.metric.name else "")
        for metric in run.shown[:3]
    ]
    train = len(run.known.images)
    took = [cost.seconds for cost in costs if cost.seconds is not None]
    cached = sum(cost.seconds is None for cost in costs) - 1  # the store is no stage
    return Tiles([
        *scores,
        ("images", f"{train:,}", f"and {len(run.manifest) - train:,} test images"),
        ("time", duration(sum(took)), f"{cached} stages from the cache" if cached else f"over {len(took)} stages"),
        ("disk", size(sum(cost.disk_bytes for cost in costs)), "outputs and feature store"),
    ])  # fmt: skip


def _leaderboard(run: Run) -> Table:
    """The learners by the chosen metric."""
    first, *others = run.shown
    rows = []
    for row in run.board.sort_values(first.name, ascending=not first.greater_is_better).to_dict("records"):
        name = str(row["learner"])
        took = seconds(stage_of(name))
        score = f"{row[first.name]:.4f} ± {run.judged[name].error:.4f}"
        more = [f"{row[metric.name]:.4f}" if pd.notna(row[metric.name]) else "" for metric in others]
        weight = f"{row['weight']:.2f}" if pd.notna(row["weight"]) else ""
        rows.append([name, score, *more, "cached" if took is None else f"{took:.1f}", weight])
    header = ["learner", *(metric.title for metric in run.shown), "seconds", "weight"]
    bars = [0.0 if row[0] == "blend" else float(row[-1] or 0) for row in rows]
    return Table("Cross-validated scores, with the standard error; the blend's are nested", header, rows, bars)


def _intervals(run: Run) -> Chart:
    order = run.board.sort_values(run.metric.name, ascending=not run.metric.greater_is_better)
    names = [str(name) for name in order["learner"]]
    scores, errors = order[run.metric.name].tolist(), [run.judged[name].error for name in names]
    folds = [list(run.judged[name].by_fold.values()) for name in names]
    svg = charts.intervals(names, scores, errors, folds, run.metric.title)
    return Chart(f"{run.metric.title} with 95 % intervals; small marks are the folds", svg)


def _costs(costs: Sequence[Cost]) -> Table:
    total = sum(cost.seconds or 0 for cost in costs)
    rows = [
        [cost.stage, size(cost.disk_bytes), size(cost.peak_bytes) if cost.peak_bytes else "",
         "" if cost.stage == "store" else "cached" if cost.seconds is None else f"{cost.seconds:.1f}"]
        for cost in costs
    ]  # fmt: skip
    bars = [(cost.seconds or 0) / total if total else 0.0 for cost in costs]
    caption = (
        "Disk, peak memory and seconds of each stage's last run on this machine; what came from the cache took none"
    )
    return Table(caption, ["stage", "disk", "memory", "seconds"], rows, bars)


def _aside() -> Iterator[Block]:
    """Why images were set aside, by reason, with the first such file."""
    quarantine = read_table(layout.QUARANTINE)
    if quarantine.empty:
        return
    found = quarantine.groupby("reason", sort=False).agg(images=("file", "size"), first=("file", "first"))
    found = found.sort_values("images", ascending=False, kind="stable").reset_index()
    most = f", the {REASONS} most common of {len(found):,} reasons" if len(found) > REASONS else ""
    yield Table.of(f"Set aside: {len(quarantine):,} images{most} ({layout.QUARANTINE})", found.head(REASONS))


def duration(value: float) -> str:
    """Seconds as a person says them."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(value: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"
