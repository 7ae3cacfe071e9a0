"""Taps: the depths at which a network is read, what each costs, and how a map becomes a vector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d
from torch.utils.flop_counter import FlopCounterMode

Kind = Literal["map", "map-last", "tokens", "vector"]  # of an image: (C, H, W), (H, W, C), (N, C) or (C,)
Pooling = Literal["avg", "max", "gem"]
GEM_POWER = 3.0
INPUT = "input"  # the network's own input, a tap only where its map is asked for
ISOTROPIC_TAPS = 4  # of a transformer whose blocks all have one shape


@dataclass(frozen=True)
class Tap:
    """A depth of the network: its output and what it costs to get there."""

    name: str
    kind: Kind
    shape: tuple[int, ...]  # of one image's output
    prefix: int  # tokens before those of the patches: the class token where there is one, then registers
    multiply_adds: int  # from the pixels to here
    parameters: int  # likewise
    head_twins: tuple[str, ...]  # poolings that give the pre-logits, so that keeping both would keep one twice
    classed: bool = False  # whether the first token is the class token

    @property
    def channels(self) -> int:
        """The width of the tap's pooled vector."""
        return self.shape[0] if self.kind in ("map", "vector") else self.shape[-1]

    @property
    def side(self) -> tuple[int, int]:
        """Height and width of its map, (1, number of patches) of tokens, (1, 1) of a vector."""
        if self.kind == "map":
            return self.shape[1], self.shape[2]
        if self.kind == "map-last":
            return self.shape[0], self.shape[1]
        return (1, self.shape[0] - self.prefix) if self.kind == "tokens" else (1, 1)

    def poolings(self, wanted: tuple[str, ...]) -> dict[str, str]:
        """The vectors to keep of this tap, by column, and how each is pooled; tokens give their class token as well."""
        if self.kind == "vector":
            return {self.name: "none"}
        all_wanted = ("cls", *wanted) if self.classed else wanted
        return {f"{self.name}.{p}": p for p in all_wanted if p not in self.head_twins}


class Keep:
    """A forward hook that notes an output; an object, so that a deep copy of the network notes its own."""

    def __init__(self, tap: str, outputs: dict[str, Tensor]) -> None:
        self._tap, self._outputs = tap, outputs

    def __call__(self, _module: nn.Module, _inputs: object, output: object) -> None:
        """Note it; a stage that returns several tensors is no tap."""
        if isinstance(output, Tensor):
            self._outputs[self._tap] = output


class Tapped(nn.Module):
    """A network that returns what it computes at each of its taps, from one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.classed = getattr(model, "cls_token", None) is not None
        self.prefix = int(getattr(model, "num_prefix_tokens", self.classed))
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._channels = {str(info.get("module")): info.get("num_chs") for info in _infos(model)}
        self._stages = stages_of(model)
        self._outputs: dict[str, Tensor] = {}
        for tap, module in self._stages.items():
            model.get_submodule(module).register_forward_hook(Keep(tap, self._outputs))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalised pixels (B, 3, H, W) to themselves, the output of every stage, the last map and the pre-logits."""
        self._outputs.clear()
        features = self.model.forward_features(pixels)  # type: ignore[operator]
        head = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        last = {"map": features} if isinstance(features, Tensor) else {}
        return {INPUT: pixels, **self._outputs, **last, "head": head}

    def kind(self, tap: str, output: Tensor) -> Kind:
        """What an output (B, ...) is."""
        if output.dim() == 2:
            return "vector"
        if output.dim() == 3:
            return "tokens"
        channels = self._channels.get(self._stages.get(tap, ""))
        # A pruned map may be as wide as its stage had channels; only of (B, H, W, C) are the first two sides equal.
        last = output.shape[3] == channels and output.shape[1] == output.shape[2]
        if (output.shape[1] == channels) != last:  # some networks' stages are not as their end
            return "map" if output.shape[1] == channels else "map-last"
        return "map-last" if self._channels_last and tap != INPUT else "map"

    def prefix_of(self, output: Tensor, last: Tensor | None) -> int:
        """The tokens before those of the patches in tokens (B, N, C); some networks put them in after their stages."""
        late = last is not None and last.dim() == 3 and last.shape[1] - output.shape[1] == self.prefix
        return 0 if late else self.prefix


def stages_of(model: nn.Module) -> dict[str, str]:
    """The network's stages, shallow to deep, as its own `feature_info` names their modules: s1, s2, ...

    Of a transformer whose blocks are all alike, four, evenly spaced.
    """
    infos = _infos(model)
    if len(infos) > ISOTROPIC_TAPS and len({(i.get("num_chs"), i.get("reduction")) for i in infos}) == 1:
        infos = [infos[len(infos) * k // ISOTROPIC_TAPS - 1] for k in range(1, ISOTROPIC_TAPS + 1)]
    modules = dict(model.named_modules())
    named = [str(info.get("module")) for info in infos]
    return {f"s{number}": module for number, module in enumerate(named, start=1) if module in modules}


def ends(model: nn.Module, pixels: Tensor) -> dict[nn.Module, int]:
    """When each module that runs has run for the last time, in the order of their ends."""
    found: dict[nn.Module, int] = {}
    clock = count()
    hooks = [m.register_forward_hook(lambda m, *_: found.update({m: next(clock)})) for m in model.modules()]
    model(pixels)
    for hook in hooks:
        hook.remove()
    return found


def _infos(model: nn.Module) -> list[dict[str, Any]]:
    return [dict(info) for info in getattr(model, "feature_info", ())]


def find_taps(network: Tapped, size: int) -> tuple[Tap, ...]:
    """Every depth at which the network can be read, found by one pass of a made-up image.

    `input` is the normalised image, `s1`, `s2`, ... are its stages, `map` is the last map where that is not the last
    stage's, `head` the pre-logits.
    """
    outputs, spent = _costs(network, size)
    stages = [tap for tap in outputs if tap not in (INPUT, "map", "head")]
    last = outputs.get("map")
    if stages and last is not None and torch.equal(outputs[stages[-1]], last):
        del outputs["map"]
    found = tuple(_tap(network, tap, output, last, outputs["head"], spent) for tap, output in outputs.items())
    return tuple(tap for tap in found if tap.kind != "tokens" or tap.shape[0] > tap.prefix)  # else none of a patch


def _costs(network: Tapped, size: int) -> tuple[dict[str, Tensor], dict[str, tuple[int, int]]]:
    """The outputs of one image, and the multiply-adds and parameters spent up to each stage; `head` stands for all."""
    counter = FlopCounterMode(display=False)
    spent = {INPUT: (0, 0)}
    used: dict[int, int] = {}

    def use(module: nn.Module, *_: object) -> None:
        used.update((id(p), p.numel()) for p in module.parameters(recurse=False))

    def note(tap: str) -> Callable[..., None]:
        return lambda *_: spent.__setitem__(tap, (counter.get_total_flops() // 2, sum(used.values())))

    # A module's own parameters count when it is entered: some, such as a transformer's scales, are used outside of
    # any leaf.
    hooks = [module.register_forward_pre_hook(use) for module in network.model.modules()]
    stages = stages_of(network.model)
    hooks += [network.model.get_submodule(m).register_forward_hook(note(tap)) for tap, m in stages.items()]
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), counter:
        outputs = network(pixels)
    for hook in hooks:
        hook.remove()
    return outputs, {**spent, "head": (counter.get_total_flops() // 2, sum(used.values()))}


def _tap(
    network: Tapped, name: str, output: Tensor, last: Tensor | None, head: Tensor, spent: Mapping[str, tuple[int, int]]
) -> Tap:
    kind = network.kind(name, output)
    prefix = network.prefix_of(output, last) if kind == "tokens" else 0
    classed = network.classed and prefix > 0
    twins = tuple(
        p
        for p in (("cls", "avg") if classed else ("avg",))
        if kind != "vector" and _same(pool(output, p, kind, prefix), head)
    )
    shape = tuple(output.shape[1:])
    return Tap(name, kind, shape, prefix, *spent.get(name, spent["head"]), head_twins=twins, classed=classed)


def pool(output: Tensor, pooling: str, kind: str, prefix: int = 0) -> Tensor:
    """Pool maps (B, C, H, W), maps (B, H, W, C) or tokens (B, N, C) to float32 (B, C); vectors stay as they are.

    `gem` is the generalised mean of power 3 (Radenovic 2018), between the mean and the maximum; `cls` is the class
    token, where there is none the mean. The others leave such tokens out.
    """
    if kind == "vector":
        return output.float()
    if pooling == "cls" and prefix:
        return output[:, 0].float()
    maps = as_map(output, kind, prefix)
    if pooling == "max":  # a CPU is slow at the one in bfloat16, a GPU at the other
        return (maps.amax((2, 3)) if maps.is_cuda else adaptive_max_pool2d(maps, 1).flatten(1)).float()
    if pooling == "gem":
        return maps.float().clamp(min=1e-6).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)
    return maps.mean((2, 3), dtype=torch.float32)


def as_map(output: Tensor, kind: str, prefix: int = 0) -> Tensor:
    """Any output with places as (B, C, H, W); tokens are one high, without those before the patches."""
    if kind == "tokens":
        return output[:, prefix:].transpose(1, 2).unsqueeze(2)
    return output.permute(0, 3, 1, 2) if kind == "map-last" else output


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)
