"""Batch normalisations folded into the convolutions before them: the same function in fewer passes over the memory."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from goulot.taps import Tapped

log = logging.getLogger("goulot")


CLOSE = 3e-4  # of the largest value of a tap; deep networks add up rounding


def folded(network: Tapped, size: int) -> Tapped:
    """The network with each batch normalisation folded into the convolution before it, in place.

    Pairs are found by running a made-up image: a normalisation whose input is the very tensor that a convolution
    returned, where nothing else, no tap either, reads that tensor. Still, every tap is compared before and after, since
    a convolution may change its weight before using it, and all is undone where one differs.
    """
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    pairs = _pairs(network, pixels)
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
    log.info("batch normalisations are left as they are: folded, the network would compute something else")
    return network


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= CLOSE * one.abs().max() + 1e-6)


class _Readers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that read each of the tensors named by `id` in `reads`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reads: dict[int, int] = {}

    def __torch_dispatch__(self, func: Callable[..., Any], _types: object, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if id(value) in self.reads:
                self.reads[id(value)] += 1
        return func(*args, **(kwargs or {}))


def _pairs(network: Tapped, pixels: Tensor) -> list[tuple[nn.Conv2d, str, nn.BatchNorm2d]]:
    """Convolutions and the normalisations that alone take their output, each used once."""
    readers = _Readers()
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor stays alive, so that its id stays its own
    pairs: list[tuple[Tensor, nn.Conv2d, str, nn.BatchNorm2d]] = []
    uses: Counter[nn.Module] = Counter()

    def after(module: nn.Module, _inputs: object, output: Tensor) -> None:
        uses[module] += 1
        outputs[id(output)] = cast(nn.Conv2d, module), output
        readers.reads[id(output)] = 0

    def before(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            uses[module] += 1
            if (found := outputs.get(id(inputs[0]))) is not None:
                pairs.append((inputs[0], found[0], name, cast(nn.BatchNorm2d, module)))

        return hook

    hooks = []
    for name, module in network.model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before(name)))
    with torch.inference_mode(), readers:
        taps = network(pixels)
    for output in taps.values():  # a tap that is a convolution's output is read there
        readers.reads[id(output)] = readers.reads.get(id(output), 0) + 1
    for handle in hooks:
        handle.remove()
    return [
        (conv, name, norm)
        for output, conv, name, norm in pairs
        if readers.reads[id(output)] == uses[conv] == uses[norm] == 1
    ]


def _fold(model: nn.Module, conv: nn.Conv2d, name: str, norm: nn.BatchNorm2d) -> None:
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
    conv.weight, conv.bias = (nn.Parameter(value.detach(), requires_grad=False) for value in (weight, bias))
    # timm's normalisations carry a dropout and an activation.
    rest = nn.Sequential(*(p for p in (getattr(norm, n, None) for n in ("drop", "act")) if isinstance(p, nn.Module)))
    rest._forward_hooks = norm._forward_hooks  # a tap may be read there
    model.set_submodule(name, rest.eval())
