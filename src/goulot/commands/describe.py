"""`goulot describe`: the depths at which a network can be read, and what each costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from goulot import networks, params, pruned
from goulot.backbones import Backbone, BackboneParams, load
from goulot.params import Section
from goulot.receptive import Span, fields
from goulot.taps import INPUT, Tap


class Extract(Section, extra="ignore"):
    """What this command reads of the section `extract`."""

    poolings: tuple[str, ...] = ("avg", "max")
    backbones: dict[str, BackboneParams] = Field({})


@dataclass(frozen=True)
class Depth:
    """A line of the table. `field` is the receptive field in pixels, as text: `all` where the whole image is seen."""

    tap: str
    output: str
    stride: str
    field: str
    parameters: int
    multiply_adds: int
    vector_bytes: int
    map_bytes: int | None


def run(name: str, *, input_size: int | None = None) -> None:
    """Print the table of a backbone of params.yaml, or of any network by its own name; ParamsError for neither."""
    settings = params.load("extract", Extract) if "extract" in params.read() else Extract()
    backbone = _load(name, settings.backbones, input_size)
    side = backbone.preprocessing.input_size
    table = Table(title=f"{name}, read at {side} x {side} pixels", box=None, pad_edge=False, collapse_padding=True)
    for column in ("depth", "output", "stride", "field,\npixels", "parameters", "multiply-\nadds", "bytes,\npooled",
                   "bytes,\nmap"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("depth", "output") else "right", overflow="fold")
    for depth in depths(backbone, settings.poolings):
        table.add_row(
            depth.tap, depth.output, depth.stride, depth.field, _short(depth.parameters),
            _short(depth.multiply_adds), f"{depth.vector_bytes:,}", f"{depth.map_bytes:,}" if depth.map_bytes else "",
        )  # fmt: skip
    console = Console()
    console.print(table)
    poolings = ", ".join(settings.poolings)
    console.print(
        f"An image's bytes are float16: all vectors of a depth ({poolings}), or its whole map before compression. "
        "Costs are summed from the pixels to the depth; its field is the pixels that one place sees."
    )


def depths(backbone: Backbone, poolings: tuple[str, ...]) -> list[Depth]:
    """What the network offers, shallow to deep."""
    taps = [tap for tap in backbone.known if tap.name != INPUT]
    side = backbone.preprocessing.input_size
    found = fields(backbone.network, taps, side)
    return [_depth(tap, side, _seen(found.get(tap.name)), poolings) for tap in taps]


def _depth(tap: Tap, side: int, field: str, poolings: tuple[str, ...]) -> Depth:
    vectors = tap.poolings(poolings)
    places = tap.side[0] * tap.side[1]
    spatial = tap.kind in ("map", "map-last")
    return Depth(
        tap.name,
        " x ".join(map(str, tap.shape)),
        str(round(side / tap.side[1])) if spatial else "",
        field,
        tap.parameters,
        tap.multiply_adds,
        2 * tap.channels * len(vectors),
        2 * tap.channels * places if tap.kind != "vector" else None,
    )


def _seen(field: Span | None) -> str:
    if field is None:
        return "all"  # tokens look at each other, and a vector is made of every place
    return "all" if field.width == field.size else f"over {field.width}" if field.cut else str(field.width)


def _load(name: str, known: dict[str, BackboneParams], input_size: int | None) -> Backbone:
    if name in known:
        settings = known[name]
    else:
        networks.check(name, f"{name} is neither in extract.backbones nor a network; it")
        settings = BackboneParams(model=name, weights="random")
    update: dict[str, Any] = {"taps": None, "maps": [], "input_size": input_size or settings.input_size}
    if not _narrow(settings.weights, name):  # the costs do not depend on the weights, which need not be here
        update |= {"weights": "random", "sha256": None}
    return load(name, settings.model_copy(update=update))


def _narrow(source: str, name: str) -> bool:
    """Whether the weights are those of a pruned network."""
    kind, _, place = source.partition(":")
    path = Path(place).expanduser()
    return kind == "file" and path.is_file() and pruned.read(path, f"extract.backbones.{name}.weights") is not None


def _short(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
