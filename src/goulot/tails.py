"""Tails: the part of a network after a tap, cut off so that it can be trained on the tap's kept maps alone."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from goulot.backbones import Backbone
from goulot.errors import ParamsError, choices
from goulot.taps import INPUT, Tap, as_map, ends, stages_of

EXACT = 1e-4  # of the largest pre-logit: what a tail may differ by from the network it was cut from


class Tail(nn.Module):
    """A tap's maps, float (B, C, H, W) as the feature store keeps them, to the network's pre-logits (B, features)."""

    def __init__(self, model: nn.Module, tap: Tap, features: int) -> None:
        super().__init__()
        self.model, self.features = model, features
        self._kind = tap.kind

    def forward(self, maps: Tensor) -> Tensor:
        """What the network makes of an image whose map this is."""
        return self.pooled(self.last(maps))

    def last(self, maps: Tensor) -> Tensor:
        """The network's last map, or tokens, as its own code lays them out."""
        if self._kind == "map-last":
            maps = maps.permute(0, 2, 3, 1)
        elif self._kind == "tokens":
            maps = maps.squeeze(2).transpose(1, 2)
        last: Tensor = self.model.forward_features(maps)  # type: ignore[operator]
        if last.requires_grad and self._kind == "map":
            last.register_hook(_as_laid_out)  # type: ignore[no-untyped-call]
        return last

    def pooled(self, last: Tensor) -> Tensor:
        """The pre-logits of a last map."""
        features: Tensor = self.model.forward_head(last, pre_logits=True)  # type: ignore[operator]
        return features


def _as_laid_out(gradient: Tensor) -> Tensor:
    """The gradient of a mean is one value seen at every place, which normalisations go through far faster as a copy."""
    return gradient.contiguous(memory_format=torch.channels_last)


def cut(backbone: Backbone, tap: str, where: str) -> Tail:
    """The network's own modules after a tap, with its weights, in evaluation mode; after `input` it is all of them.

    The cut replaces every module that is done when the tap is reached by nothing at all. Whether what is left is what
    the network computes depends on its code, so that it is tried on a made-up image. Raises ParamsError where it is
    not, or there is no such tap, naming the taps that can be taken.
    """
    places: dict[str, str | None] = {INPUT: None, **stages_of(backbone.network.model)}
    known = {known.name: known for known in backbone.known if known.name in places and known.kind != "vector"}
    if tap not in known:
        raise ParamsError(choices("tap", tap, known, f"{where} can be one of"))
    if (tail := _try(backbone, known[tap], places[tap])) is not None:
        return tail
    able = [name for name, other in known.items() if _try(backbone, other, places[name]) is not None]
    raise ParamsError(
        f"{where} is {tap}, but what {backbone.name} computes after it takes more than that map; "
        f"its network can be cut after {', '.join(able)}"
    )


def _try(backbone: Backbone, tap: Tap, place: str | None) -> Tail | None:
    """The tail, None where it does not give what the network gives."""
    size = backbone.preprocessing.input_size
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # and not in inference mode, whose tensors could not be trained
        outputs = dict(backbone.network(pixels))
        tail = Tail(_shortened(backbone.network.model, place, pixels), tap, outputs["head"].shape[1])
        try:
            found = tail(as_map(outputs[tap.name], tap.kind, tap.prefix))
        except Exception:  # whatever a network's code raises on what it does not expect
            return None
    wanted = outputs["head"]
    return tail if found.shape == wanted.shape and _close(found, wanted) else None


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= EXACT * other.abs().max())


def _shortened(model: nn.Module, place: str | None, pixels: Tensor) -> nn.Module:
    """A copy of the network without the modules that are done when the one at `place` is."""
    model = deepcopy(model)
    for module in model.modules():
        module._forward_hooks.clear()  # those of the taps
    if place is not None:
        tap = model.get_submodule(place)
        _drop(model, tap, ends(model, pixels))
    return model


def _drop(container: nn.Module, tap: nn.Module, done: dict[nn.Module, int]) -> None:
    """Put nothing in place of the tap and of what is done before it; a container of the tap keeps what follows."""
    for name, child in list(container.named_children()):
        parts = list(child.modules())
        inside = [done[part] for part in parts if part in done]
        if child is tap or (inside and max(inside) < done[tap]):
            setattr(container, name, nn.Identity())
        elif tap in parts:
            _drop(child, tap, done)
