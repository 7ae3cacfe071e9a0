"""`goulot plan`: what each stage will take on this machine, from a short trial, and what to keep within a budget."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from goulot import layout, params
from goulot.artifacts import read_json
from goulot.errors import GoulotError, ParamsError
from goulot.learners import find
from goulot.planning import estimate, trial
from goulot.planning.estimate import Cost
from goulot.planning.keep import Choice, Lean, Plan
from goulot.progress import track
from goulot.ranking import ALL
from goulot.reporting import costs
from goulot.reporting.overview import duration, size
from goulot.stages import audit, augment, extract, finetune, learn, prune, rank

POWERS = {"svm": 2}  # of learners whose time grows faster than the images


def run(*, deadline: str | None = None, disk: str | None = None) -> None:
    """Print a line a stage; with limits, what to keep of networks, depths, views and fine-tuning.

    Raises GoulotError where images were not read yet, a stage fails, or nothing fits.
    """
    seconds, room = _seconds(deadline), _bytes(disk)
    console = Console()
    with TemporaryDirectory(prefix="goulot-plan-") as place:
        images, found, failed = _trial(Path(place))
        console.print(_table(found, failed, images))
        if failed:
            raise GoulotError(f"no plan without {', '.join(failed)}: {next(iter(failed.values()))}")
        plan = _plan(Path(place) / trial.LARGEST, found, images)
    whole = plan.all()
    said = f"In all some {duration(plan.seconds(whole))}, {size(plan.disk_bytes(whole))} of disk"
    console.print(f"{said}, one stage after the other and from scratch: what DVC or the feature store has takes none.")
    held = sum(cost.disk_bytes for cost in costs.read())
    free = shutil.disk_usage(layout.DATA).free + held  # what is there already need not find room
    full = free if plan.disk_bytes(whole) > free else None
    if deadline is None and disk is None and full is None:
        return
    best = plan.best(seconds=seconds, disk_bytes=min(room, free))
    if best is None:
        small = plan.least()
        raise GoulotError(
            f"nothing fits {_limits(deadline, disk, full)}: the least, {_kept(small)}, takes some "
            f"{duration(plan.seconds(small))} and {size(plan.disk_bytes(small))}; allow more, or lower split.folds, "
            "extract.backbones.<name>.input_size or what learn.learners trains"
        )
    if best == whole:
        console.print(f"All of it fits {_limits(deadline, disk, full)}.")
        return
    console.print(f"To fit {_limits(deadline, disk, full)}, keep {_kept(best)}: some "
                  f"{duration(plan.seconds(best))}, {size(plan.disk_bytes(best))}. In params.yaml:")  # fmt: skip
    for line in _changes(whole, best):
        console.print(f"    {line}", highlight=False)


def _trial(folder: Path) -> tuple[int, list[Cost], dict[str, GoulotError]]:
    """How many images there are, what the stages cost for all of them, and why others could not be tried."""
    found, failed = [], dict[str, GoulotError]()
    recipes = params.load("finetune", finetune.Params).networks
    learners = params.load("learn", learn.Params).learners
    images, runs = trial.run(folder, _device(params.load("extract", extract.Params).device))
    stages = len([*costs.stages()]) - 1
    for stage, measured in track(runs, total=stages, unit="stages", label="trial"):
        verb, _, name = stage.partition("@")
        if isinstance(measured, GoulotError):
            failed[stage] = measured
            continue
        power = POWERS.get(learners[name].kind, 1) if verb == "learn" else 1
        epochs = recipes[name].epochs if verb == "finetune" else 1
        by_view = verb == "extract" or (verb == "learn" and learners[name].views == "rows")
        found.append(estimate.cost(stage, measured, images, power=power, epochs=epochs, by_view=by_view))
    return images, found, failed


def _plan(cut: Path, found: Sequence[Cost], images: int) -> Plan:
    """What can be chosen from; which network and depth is worth how much, `rank` said in the trial."""
    ranking = pd.read_csv(cut / layout.RANKING)
    order = ranking.groupby("backbone")["score"].max().sort_values(ascending=False, kind="stable").index.tolist()
    order += [name for name in params.members("extract", "backbones") if name not in order]
    views = params.load("augment", augment.Params).views
    recipes = params.load("finetune", finetune.Params).networks
    stacked = {(str(b), str(c)) for b, c in read_json(cut / layout.CHOICE)[ALL]}
    lean = {name: rest for name in order if (rest := _lean(cut, name, stacked, images * (views + 1)))}
    return Plan(found, order, needed(), frozenset(recipe.backbone for recipe in recipes.values()), views, lean)


def needed() -> frozenset[str]:
    """The backbones that params.yaml names elsewhere too, so that leaving one out would stop the run."""
    learners = params.load("learn", learn.Params).learners
    maps = [find(f"learn.learners.{name}", about.model_dump()).map for name, about in learners.items()]
    read = {backbone for backbone, _ in filter(None, maps)}
    pruned = {recipe.backbone for recipe in params.load("prune", prune.Params).networks.values()}
    by_hand = {column.partition("/")[0] for column in params.load("rank", rank.Params).columns or ()}
    return frozenset({params.load("audit", audit.Params).backbone, *read, *pruned, *by_hand})


def _lean(cut: Path, backbone: str, stacked: set[tuple[str, str]], rows: int) -> Lean | None:
    """The depths of a network that are stacked, the deepest among them, which `audit` compares; None if that is all."""
    columns: Mapping[str, Mapping[str, int]] = read_json(cut / layout.features(backbone) / "meta.json")["columns"]
    depths = list(dict.fromkeys(column.partition(".")[0] for column in columns))
    deepest = max(sorted(columns), key=lambda column: (column == "head", columns[column]["multiply_adds"]))
    kept = {column.partition(".")[0] for name, column in stacked if name == backbone} | {deepest.partition(".")[0]}
    saved = sum(about["bytes"] for column, about in columns.items() if column.partition(".")[0] not in kept)
    # Vectors stand in the feature store and in data/extract.
    return (tuple(d for d in depths if d in kept), 2.0 * rows * saved) if saved else None


def _table(found: Sequence[Cost], failed: Mapping[str, GoulotError], images: int) -> Table:
    table = Table(title=f"{images:,} images", title_justify="left")
    for column in ("stage", "time", "memory", "disk", "its last run here"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for cost in found:
        last = costs.seconds(cost.stage)
        table.add_row(cost.stage, duration(cost.seconds), size(cost.peak_bytes), size(cost.disk_bytes),
                      "" if last is None else duration(last))  # fmt: skip
    for stage in failed:
        table.add_row(stage, "could not be tried")
    return table


def _kept(choice: Choice) -> str:
    views = f"{choice.views} augmented view{'' if choice.views == 1 else 's'}"
    depths = ", of each the depths that are stacked" if choice.taps else ""
    return f"{', '.join(choice.backbones)}{depths}, {views}, {'' if choice.finetune else 'no '}fine-tuning"


def _changes(whole: Choice, best: Choice) -> list[str]:
    """What to write."""
    gone = [name for name in whole.backbones if name not in best.backbones]
    lines = [f"extract.backbones: leave out {', '.join(gone)}"] if gone else []
    lines += [f"extract.backbones.{name}.taps: [{', '.join(taps)}]" for name, taps in best.taps.items()]
    lines += [f"augment.views: {best.views}"] if best.views != whole.views else []
    return lines + (["finetune.networks: {}"] if whole.finetune and not best.finetune else [])


def _limits(deadline: str | None, disk: str | None, free: float | None) -> str:
    """Those that bind, in words; `free` is the disk that there is, where that is less than what is wanted."""
    room = (
        disk if free is None or (disk is not None and _bytes(disk) <= free) else f"the {size(free)} of disk there are"
    )
    return " and ".join(filter(None, (deadline, room)))


def _seconds(deadline: str | None) -> float:
    if deadline is None:
        return float("inf")
    try:
        seconds = float(pd.Timedelta(deadline).total_seconds())
    except ValueError:
        seconds = 0.0
    if deadline.strip()[-1:].isdigit() or not seconds > 0:  # pandas takes a bare number for nanoseconds
        raise ParamsError(f"--deadline is {deadline!r}; it is a time such as 2h, 90m or 1h30m")
    return seconds


def _bytes(disk: str | None) -> float:
    if disk is None:
        return float("inf")
    try:
        return float(TypeAdapter(ByteSize).validate_python(disk))
    except ValidationError as error:
        raise ParamsError(f"--disk is {disk!r}; it is a size such as 5GB or 800MB") from error


def _device(wanted: str) -> str:
    import torch

    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
