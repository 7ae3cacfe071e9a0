"""Batch normalisations folded into the convolutions before them: the same function in fewer passes over the memory."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from goulot.taps import Tapped


def folded(network: Tapped, size: int) -> Tapped:
    """The network with each batch normalisation folded into the convolution before it, in place.

    Pairs are found by running a made-up image: a
    normalisation whose input is the very tensor that a convolution returned. Every tap is compared before and after.
    """
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    pairs = _pairs(network.model, pixels)
    with torch.inference_mode():
        before = network(pixels)
    undo = [(conv, conv.weight, conv.bias, name, norm) for conv, name, norm in pairs]
    for conv, name, norm in pairs:
        _fold(network.model, conv, name, norm)
    with torch.inference_mode():
        after = network(pixels)
    if before.keys() == after.keys() and all(_close(before[tap], after[tap]) for tap in before):
        return network
    for conv, weight, bias, name, norm in undo:
        conv.weight, conv.bias = weight, bias
        network.model.set_submodule(name, norm)
    return network


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= 1e-3 * one.abs().max() + 1e-6)


def _pairs(model: nn.Module, pixels: Tensor) -> list[tuple[nn.Conv2d, str, nn.BatchNorm2d]]:
    """Convolutions and the normalisations that take their output, each used once."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, str, nn.BatchNorm2d]] = []
    uses: dict[int, int] = {}

    def after(module: nn.Module, _inputs: object, output: Tensor) -> None:
        uses[id(module)] = uses.get(id(module), 0) + 1
        outputs[id(output)] = (module, output)  # type: ignore[assignment]  # the tensor stays alive, so does its id

    def before(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            uses[id(module)] = uses.get(id(module), 0) + 1
            if (found := outputs.get(id(inputs[0]))) is not None:
                pairs.append((found[0], name, module))  # type: ignore[arg-type]

        return hook

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before(name)))
    with torch.inference_mode():
        model(pixels)
    for handle in hooks:
        handle.remove()
    return [pair for pair in pairs if uses[id(pair[0])] == uses[id(pair[2])] == 1]


def _fold(model: nn.Module, conv: nn.Conv2d, name: str, norm: nn.BatchNorm2d) -> None:
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
    conv.weight, conv.bias = (nn.Parameter(value.detach(), requires_grad=False) for value in (weight, bias))
    # timm's normalisations carry a dropout and an activation.
    rest = [getattr(norm, part) for part in ("drop", "act") if isinstance(getattr(norm, part, None), nn.Module)]
    model.set_submodule(name, nn.Sequential(*rest))
