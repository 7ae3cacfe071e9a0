"""Backbones: a network by name with its weights, its own preprocessing and the taps at which it is read."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision.transforms import InterpolationMode, Resize, v2

from goulot import networks, weights
from goulot.errors import ParamsError, choices
from goulot.params import Section
from goulot.resizing import Products
from goulot.taps import INPUT, Tap, Tapped, find_taps

Resizer = Literal["pillow", "torch"]
QUICK = (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)
METHOD = 1  # raised where this code comes to give other features for the same weights and images: the store outlives it


class BackboneParams(Section):
    """A network and where its weights come from."""

    model: str = Field(description="any name that timm knows, or alexnet, googlenet (inception_v1), lenet5")
    weights: str = Field("hub", description="hub, package:<module>, file:<path> or random")
    sha256: str | None = Field(
        None, pattern="^[0-9a-fA-F]{64}$", description="of the file of weights; another one is refused"
    )
    input_size: int | None = Field(None, ge=32, le=2048, description="side in pixels; empty means the weights' own")
    crop_pct: float | None = Field(
        None, gt=0, le=1,
        description="share of the shorter side that a central crop keeps; empty means the weights' own, of which many "
        "are 0.875",
    )  # fmt: skip
    taps: list[str] | None = Field(
        None, description="depths whose vectors are kept, e.g. [s4, s5, head]; empty means all, [] none"
    )
    maps: list[str] = Field([], description="depths whose whole map is kept as well, e.g. [s5]")

    @field_validator("weights")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if not weights.known(source):
            raise ValueError("must be hub, package:<module>, file:<path> or random")
        return source


@dataclass(frozen=True)
class Preprocessing:
    """What the weights were trained with, taken from their own config; size and crop may be set otherwise."""

    input_size: int
    crop_pct: float
    crop_mode: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def resize(self, by: Resizer = "pillow") -> Callable[[Image.Image], Tensor]:
        """Timm's own evaluation transform without its normalisation: RGB image -> uint8 (3, H, W).

        By torch it takes less than half the time, and here and there a pixel is rounded otherwise; what torch has no
        like of stays with Pillow.
        """
        if by == "torch" and (quick := self.quick()) is not None:
            return lambda image: quick(torch.from_numpy(np.array(image)).permute(2, 0, 1))  # channels last in memory
        return self._transform()  # type: ignore[no-any-return]

    def quick(self) -> Callable[[Tensor], Tensor] | None:
        """The transform by torch, of uint8 (..., 3, H, W), None where torch has no like of it."""
        parts = self._parts()
        return None if parts is None else v2.Compose([parts[0], *parts[1]])

    def products(self) -> Products | None:
        """The same for a GPU, of uint8 (n, 3, H, W)."""
        parts = self._parts()
        return None if parts is None else Products(*parts)

    def _parts(self) -> tuple[v2.Resize, list[Any]] | None:
        first, *rest = self._transform().transforms
        if not isinstance(first, Resize) or first.interpolation not in QUICK:
            return None
        return v2.Resize(first.size, first.interpolation, antialias=True), rest

    def _transform(self) -> Any:
        return create_transform(
            input_size=(3, self.input_size, self.input_size), interpolation=self.interpolation,
            crop_pct=self.crop_pct, crop_mode=self.crop_mode, normalize=False,
        )  # fmt: skip


@dataclass(frozen=True)
class Backbone:
    """A frozen network ready to be read: of all its known taps, `taps` give vectors and `maps` whole maps."""

    name: str
    network: Tapped
    preprocessing: Preprocessing
    known: tuple[Tap, ...]
    taps: tuple[Tap, ...]
    maps: tuple[Tap, ...]
    weights_sha256: str

    def key(self) -> dict[str, Any]:
        """All that a feature's value depends on as far as the network goes."""
        return {"weights": self.weights_sha256, "preprocessing": asdict(self.preprocessing), "method": METHOD}


def load(name: str, params: BackboneParams) -> Backbone:
    """Make the network with its weights in evaluation mode.

    Raises ParamsError for an unknown network or tap and WeightsError for missing or foreign weights.
    """
    where = f"extract.backbones.{name}"
    networks.check(params.model, f"{where}.model")
    model = weights.load(
        params.model, params.weights, f"{where}.weights", input_size=params.input_size, sha256=params.sha256
    )
    model.reset_classifier(0)  # type: ignore[operator]
    model.eval().requires_grad_(False)
    config: dict[str, Any] = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    size = params.input_size or config["input_size"][-1]
    preprocessing = Preprocessing(
        size,
        params.crop_pct or config["crop_pct"],
        config["crop_mode"],
        config["interpolation"],
        tuple(config["mean"]),
        tuple(config["std"]),
    )
    network = Tapped(model)
    known = {tap.name: tap for tap in _taps(network, size, f"{where}.model", params.model)}
    wanted = params.taps if params.taps is not None else [tap for tap in known if tap != INPUT]
    taps = _chosen(name, "tap", known, wanted)
    maps = _chosen(name, "map", {n: tap for n, tap in known.items() if tap.kind != "vector"}, params.maps)
    return Backbone(
        name,
        network,
        preprocessing,
        tuple(known.values()),
        taps,
        maps,
        weights.digest(params.model, model.state_dict()),
    )


def _taps(network: Tapped, size: int, where: str, model: str) -> tuple[Tap, ...]:
    try:
        return find_taps(network, size)
    except Exception as error:  # whatever its own code raises for a size that it cannot take, or that is no image's
        reason = " ".join(str(error).split())[:160]
        raise ParamsError(
            f"{where}: {model} cannot be read at {size} x {size} pixels ({type(error).__name__}: {reason}); "
            "set another input_size or model"
        ) from error


def _chosen(name: str, what: str, known: dict[str, Tap], wanted: list[str]) -> tuple[Tap, ...]:
    for tap in wanted:
        if tap not in known:
            raise ParamsError(choices(what, tap, known, f"the network of extract.backbones.{name} has"))
    return tuple(known[tap] for tap in dict.fromkeys(wanted))
