"""`goulot prune <name>`: a network without the channels that the task's images do not need, for `extract` to run."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from goulot import backbones, feeding, layout, networks, pruned, pruning, ranking, truth
from goulot.artifacts import file_sha256, read_table, write_json
from goulot.augmentation import View
from goulot.backbones import Backbone, BackboneParams
from goulot.elimination import Moments
from goulot.engine import Engine
from goulot.errors import ParamsError, choices
from goulot.images import Shards
from goulot.params import Section, members, parse, read
from goulot.progress import track
from goulot.taps import Tapped, find_taps

log = logging.getLogger("goulot")

BATCH = 16


class Recipe(Section):
    """What is pruned, how far, and what it may cost."""

    backbone: str = Field(description="a name below extract.backbones")
    share: float = Field(0.15, gt=0, lt=1, description="of its multiply-adds that go, at most")
    tolerance: float = Field(0.005, ge=0, description="what the probe's score may fall by; else the original is kept")
    images: int = Field(1000, ge=2, description="training images that decide and are scored, evenly spread")


class Params(Section):
    """The networks, and what they have in common."""

    threads: int = Field(2, ge=1, le=256, description="fixed, since the last bits of a result depend on it")
    alpha: float = Field(300.0, gt=0, description="ridge penalty of the probe, on standardised features")
    networks: dict[str, Recipe] = Field(
        {},
        description="what is pruned, by a name of yours",
        examples=[{"slim": {"backbone": "lite0", "share": 0.15}, "lite2": None}],
    )


def run(params: Params, name: str) -> None:
    """Write `data/prune/<name>/`: metrics.json, and network.safetensors unless the score falls by more than allowed."""
    if name not in params.networks:
        raise ParamsError(choices("network", name, params.networks, "prune.networks has"))
    recipe, folder = params.networks[name], layout.pruned(name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.set_num_threads(params.threads)
    settings = _settings(recipe, name)
    before = backbones.load(recipe.backbone, settings)
    known = truth.read().train
    rows = ranking.spread(len(known.images), recipe.images)
    pixels = _pixels(before, known.images.iloc[rows], params.threads, f"prune {name}")
    where, model = f"prune.networks.{name}", before.network.model
    layers = pruning.readers(model, before.preprocessing.input_size, where)
    heads, seen = pruning.look(model, layers, pixels(), before.preprocessing)
    after, cut = _pruned(before, seen, recipe, settings, where)
    y, fold = known.y[rows], known.fold[rows]
    scores = [
        ranking.probe(X, y, fold, known.target, alpha=params.alpha)[ranking.ALL]
        for X in (heads, pruning.heads(after.network.model, pixels(), after.preprocessing))
    ]
    keeps = scores[0] - scores[1] <= recipe.tolerance
    if keeps:
        pruned.write(layout.pruned_weights(name), after.network.model, cut)
    write_json(layout.metrics(folder), {
        "before": _numbers(before, scores[0]), "after": _numbers(after, scores[1]), "images": len(rows),
        "kept": "pruned" if keeps else "original",
    })  # fmt: skip
    speeds = pruning.speeds([before, after], next(pixels()))
    write_json(layout.speed(f"prune@{name}"), dict(zip(("before", "after"), speeds, strict=True)))
    _say(name, (before, after), scores, speeds, ranking.scored_by(known.target))
    _conclude(name, recipe, settings, scores, keeps=keeps)


def _settings(recipe: Recipe, name: str) -> BackboneParams:
    """Those of the backbone that is pruned."""
    known = members("extract", "backbones")
    if recipe.backbone not in known:
        raise ParamsError(choices("backbone", recipe.backbone, known, f"prune.networks.{name}.backbone can be one of"))
    settings = read()["extract"]["backbones"][recipe.backbone]
    return parse(f"extract.backbones.{recipe.backbone}", settings, BackboneParams)


def _pixels(backbone: Backbone, images: pd.DataFrame, threads: int, label: str) -> Callable[[], Iterator[Tensor]]:
    """Gives the images themselves as the network takes them, uint8 (B, H, W, 3), decoded anew each time."""
    manifest = read_table(layout.MANIFEST)
    shards, engine = Shards(layout.SHARDS, manifest), Engine("cpu", "float32", BATCH, threads)
    places = manifest.set_index("image_id").loc[images["image_id"], ["shard", "row"]]
    jobs = [feeding.Job(shard, int(row), str(i), [View()], [str(i)]) for i, shard, row in places.itertuples()]

    def batches() -> Iterator[Tensor]:
        found = feeding.batches(backbone, engine, shards, jobs)
        for names, rows in track(found, total=-(-len(jobs) // BATCH), unit="batches", label=label):
            yield rows[: len(names)]

    return batches


def _pruned(
    before: Backbone, seen: Mapping[str, Moments], recipe: Recipe, settings: BackboneParams, where: str
) -> tuple[Backbone, pruned.Cut]:
    """The pruned network, made anew from what its file will hold, which must give what the one that was cut does."""
    size = before.preprocessing.input_size
    cut_out = pruning.without(before.network.model, size, seen, recipe.share, where)
    whole = networks.create(settings.model, input_size=settings.input_size)
    cut = pruned.compare(settings.model, whole, cut_out)
    made = pruned.narrowed(whole, cut, cut_out.state_dict(), "what is left", where).eval().requires_grad_(False)
    if not pruning.alike(made, cut_out, size):
        raise ParamsError(f"{where}: what this network's code computes cannot be told from its layers' sizes alone")
    network = Tapped(made)
    return replace(before, network=network, known=find_taps(network, size)), cut


def _numbers(backbone: Backbone, score: float) -> dict[str, float]:
    head = next(tap for tap in backbone.known if tap.name == "head")
    return {"score": score, "parameters": head.parameters, "multiply_adds": head.multiply_adds}


def _say(name: str, both: Sequence[Backbone], scores: Sequence[float], speeds: Sequence[float], title: str) -> None:
    (score, before), (less, after) = ((s, _numbers(b, s)) for b, s in zip(both, scores, strict=True))
    log.info(
        "%s: %s of the probe %.4f -> %.4f, %.2f -> %.2f million parameters, %.0f -> %.0f million multiply-adds, "
        "%.0f -> %.0f images/s (float32, torch, batches of %d)", name, title, score, less,
        before["parameters"] / 1e6, after["parameters"] / 1e6,
        before["multiply_adds"] / 1e6, after["multiply_adds"] / 1e6, *speeds, BATCH,
    )  # fmt: skip


def _conclude(name: str, recipe: Recipe, settings: BackboneParams, scores: Sequence[float], *, keeps: bool) -> None:
    """Say what is kept, and the lines that have `extract` run it."""
    if not keeps:
        log.warning(
            "%s: the score falls from %.4f to %.4f, by more than prune.networks.%s.tolerance (%g): %s stays as it is, "
            "no network is written; a smaller share costs less", name, *scores, name, recipe.tolerance, recipe.backbone,
        )  # fmt: skip
        return
    path = layout.pruned_weights(name)
    own = {"input_size": settings.input_size, "crop_pct": settings.crop_pct}
    lines = [f"{name}:", f"  model: {settings.model}", f"  weights: file:{path}", f"  sha256: {file_sha256(path)}",
             *(f"  {key}: {value:g}" for key, value in own.items() if value)]  # fmt: skip
    log.info(  # a setting a line: DVC's own writer, by which it sets params, spoils an address in braces
        "%s is a backbone of its own; to extract with it, put these lines below extract.backbones:\n%s", name,
        "\n".join(f"    {line}" for line in lines),
    )  # fmt: skip
