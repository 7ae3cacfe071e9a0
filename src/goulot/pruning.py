"""Pruning: which channels of a network the task's images do not need, and the network without them.

No label is read: a network that was pruned by all labels would carry them from each fold into every feature that it
gives. What decides is what the task's own images make of each layer's input (as in Hu et al. 2016, "Network Trimming",
and Molchanov et al. 2017): `elimination` says what the layers that read a channel lose with it.

Channels hang together: what a normalisation, a residual sum or a depthwise convolution takes must go with them. Their
groups are found by torch-pruning (DepGraph, Fang et al. 2023). Left whole is what ends in the network's output, so that
its pre-logits stay as wide and mean the same, and what is normalised across channels, cut into groups or heads,
reshaped, or scaled by parameters outside of any layer.
"""

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goulot.backbones import Backbone, Preprocessing
from goulot.elimination import Moments, Reader, eliminate, made_up
from goulot.errors import ParamsError
from goulot.runtimes import load

PLACES = 64  # of each map that are looked at: neighbours say much the same
MULTIPLE = 8  # widths end as multiples of it, which processors compute fastest
FEWEST = 0.5  # rows a channel: where fewer were seen, as after a network's last pooling, they tell nothing
TRIES = 4
SAME = 1e-4  # of the largest pre-logit: what two orders of the same sums may differ by

LAYERS = (nn.Conv2d, nn.Linear)
NORMS = (nn.LayerNorm, nn.GroupNorm)
HEADS = ("Bmm", "Attention", "Softmax")  # operations of attention, whose channels belong to heads

Member = tuple[Any, list[int], list[int], bool]


@dataclass(frozen=True)
class Group:
    """Channels that go together, in the order in which they go, and what all that are gone by then cost so far at most.

    A cost is what a channel takes of the outputs of the layers that read it, as a share of each one's mean square.
    """

    root: str  # the layer that makes them
    order: list[int]
    cost: list[float]
    channels: int
    writers: tuple[str, ...]  # the layers one of whose outputs is a channel, a depthwise convolution among them
    readers: tuple[str, ...]  # the layers one of whose inputs is

    def blocks(self) -> list[int]:
        """How many may be gone, none first, so that what is left is a multiple of 8."""
        return [0, *range(self.channels % MULTIPLE or MULTIPLE, len(self.order) + 1, MULTIPLE)]


def readers(network: nn.Module, size: int, where: str) -> set[str]:
    """The layers that read channels which may go.

    Raises ParamsError where there are none, torch-pruning is missing or it cannot follow the network.
    """
    _, graph, names = _traced(network, size, where)
    found = {name for _, readers, _ in _groups(graph, names) for name, _ in readers}
    if not found:
        raise ParamsError(
            f"{where}: none of this network's channels can go, all reach its output or are tied to a place"
        )
    return found


def look(
    network: nn.Module, layers: Collection[str], pixels: Iterable[Tensor], scaling: Preprocessing
) -> tuple[np.ndarray, dict[str, Moments]]:
    """Run images, uint8 (B, H, W, 3), through the network: pre-logits float32 (n, features), the layers' moments."""
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = _rows(module, inputs[0])  # (rows, channels)
            sums[name] = sums.get(name, 0) + (x.T @ x).double()
            rows[name] = rows.get(name, 0) + len(x)

        return hook

    hooks = [m.register_forward_pre_hook(note(name)) for name, m in network.named_modules() if name in layers]
    found = heads(network, pixels, scaling)
    for hook in hooks:
        hook.remove()
    return found, {name: Moments(total / rows[name], rows[name]) for name, total in sums.items()}


def heads(network: nn.Module, pixels: Iterable[Tensor], scaling: Preprocessing) -> np.ndarray:
    """The pre-logits of images uint8 (B, H, W, 3), float32 (n, features)."""
    mean, std = (torch.tensor(values).mul(255).view(1, 3, 1, 1) for values in (scaling.mean, scaling.std))
    network = network.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        return torch.cat([_head(network, (p.permute(0, 3, 1, 2).float() - mean) / std) for p in pixels]).numpy()


def without(network: nn.Module, size: int, seen: Mapping[str, Moments], share: float, where: str) -> nn.Module:
    """A copy of the network without the channels that cost least for the `share` of its multiply-adds that they take.

    `seen` has the moments of the layers that `readers` names. Raises ParamsError where too few images were seen or
    `share` is too small for any, or the network does not run without them.
    """
    narrow, graph, names = _traced(network, size, where)
    going = _chosen(list(_eliminated(graph, names, seen)), _multiply_adds(narrow, size), share)
    if not going:
        raise ParamsError(
            f"{where}: nothing can go: share is {share:g}, and of no layer of which the images tell enough do "
            f"{MULTIPLE} channels take so little; set a larger share or more images"
        )
    inputs = {name: np.arange(len(about.square)) for name, about in seen.items()}
    outputs = {name: np.arange(len(network.get_submodule(name).weight)) for name in seen}  # type: ignore[arg-type]
    for root, channels in going.items():
        group = _group(graph, narrow.get_submodule(root), channels)
        for module, numbers, _, reads in _members(graph, group):
            kept = inputs if reads else outputs
            if (name := names[module]) in kept:
                kept[name] = np.delete(kept[name], numbers)
        group.prune()
    for name, left in inputs.items():
        if len(left) < len(seen[name].square):
            weight: Tensor = network.get_submodule(name).weight  # type: ignore[assignment]
            layer: Any = narrow.get_submodule(name)
            layer.weight.data = made_up(weight.detach()[outputs[name]], left, seen[name])
    narrow.eval().requires_grad_(False)
    try:
        with torch.inference_mode():
            _head(narrow, torch.zeros(1, 3, size, size))
    except Exception as error:  # of any kind, where its code has a number of channels written in it
        raise ParamsError(f"{where}: this network does not run with fewer channels ({type(error).__name__})") from error
    return narrow


def alike(one: nn.Module, other: nn.Module, size: int) -> bool:
    """Whether two networks give the same pre-logits of a made-up image."""
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        a, b = _head(one, pixels), _head(other, pixels)
    return a.shape == b.shape and bool((a - b).abs().max() <= SAME * b.abs().max())


def speeds(networks: Sequence[Backbone], pixels: Tensor) -> list[float]:
    """Images a second of each, in float32 by torch on the CPU, in batches as `pixels` uint8 (B, H, W, 3).

    One after the other again and again: what else a machine does slows all alike.
    """
    batch, threads = len(pixels), torch.get_num_threads()
    readers = [load("torch", n, {"head": ("head", "none")}, "cpu", "float32", batch, threads) for n in networks]
    best = [float("inf")] * len(readers)
    for _ in range(1 + TRIES):  # the first one warms up
        for number, reader in enumerate(readers):
            start = time.perf_counter()
            reader(pixels)
            best[number] = min(best[number], time.perf_counter() - start)
    return [batch / seconds for seconds in best]


def _head(network: Any, images: Tensor) -> Tensor:
    """Normalised images (B, 3, H, W) to their pre-logits (B, features)."""
    found: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)
    return found


def _rows(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's input, (B, C, H, W) of a convolution, else (B, ..., C), as rows of channels, a spread of an image's."""
    x = x.flatten(2).transpose(1, 2) if isinstance(layer, nn.Conv2d) else x.reshape(len(x), -1, x.shape[-1])
    places = np.unique(np.linspace(0, x.shape[1] - 1, PLACES).astype(int))
    return x[:, places].reshape(-1, x.shape[2]).float()


def _mixes(module: nn.Module) -> bool:
    """Whether it is a layer each of whose outputs may read all of its inputs."""
    return isinstance(module, LAYERS) and getattr(module, "groups", 1) == 1


def _depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels == conv.out_channels


def _traced(network: nn.Module, size: int, where: str) -> tuple[nn.Module, Any, dict[nn.Module, str]]:
    """A copy of the network, what depends on what in it, by torch-pruning, and its modules' names."""
    try:
        import torch_pruning
    except ImportError as error:
        raise ParamsError("prune needs torch-pruning; pip install 'goulot[prune]'") from error
    copy = deepcopy(network).requires_grad_(True)
    for module in copy.modules():
        module._forward_hooks.clear()  # those of the taps
    example = torch.zeros(1, 3, size, size)
    with warnings.catch_warnings(action="ignore"):  # of parameters outside of layers: what they are in stays whole
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(copy, example, forward_fn=_head)
        except Exception as error:  # it raises whatever a network that it was not made for makes it raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            raise ParamsError(f"{where}: torch-pruning cannot follow this network ({reason})") from error
    return copy, graph, {module: name for name, module in copy.named_modules()}


def _group(graph: Any, module: nn.Module, channels: Sequence[int]) -> Any:
    """What must go with a layer's output channels of those numbers."""
    return graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, list(channels))


def _members(graph: Any, group: Any) -> list[Member]:
    """The group's layers: each one, its numbers of the channels, those in the root, and whether they are its inputs."""
    layers = [member for member in group if isinstance(member.dep.target.module, LAYERS)]
    return [
        (m.dep.target.module, m.idxs, m.root_idxs,
         _mixes(m.dep.target.module) and bool(graph.is_in_channel_pruning_fn(m.dep.handler)))
        for m in layers
    ]  # fmt: skip


def _stays(group: Any) -> bool:
    """Whether all of its channels stay: they are the network's output, or where they stand means something."""
    from torch_pruning.ops import OPTYPE

    placed = {OPTYPE.SPLIT, OPTYPE.UNBIND, OPTYPE.SLICE, OPTYPE.EXPAND, OPTYPE.PARAMETER}
    for member in group:
        target = member.dep.target
        module = target.module
        if not target.outputs or target.type in placed or isinstance(module, NORMS):
            return True
        if isinstance(module, nn.Conv2d) and not (_mixes(module) or _depthwise(module)):
            return True
        if any(word in str(getattr(module, "_grad_fn", "")) for word in HEADS):
            return True
    return False


def _groups(graph: Any, names: Mapping[nn.Module, str]) -> Iterator[tuple[str, list[tuple[str, list[int]]], list[str]]]:
    """The groups that may go: the root, the readers with their numbers of its channels in its order, the writers."""
    for group in graph.get_all_groups(root_module_types=list(LAYERS)):
        members = _members(graph, group)
        everyone = list(range(len(group[0].idxs)))
        reading = [(m, np.asarray(numbers)[np.argsort(roots)], sorted(roots)) for m, numbers, roots, reads in members
                   if reads]  # fmt: skip
        if reading and not _stays(group) and all(roots == everyone for *_, roots in reading):
            writers = [names[module] for module, _, _, reads in members if not reads]
            yield names[group[0].dep.target.module], [(names[m], list(n)) for m, n, _ in reading], writers


def _eliminated(graph: Any, names: Mapping[nn.Module, str], seen: Mapping[str, Moments]) -> Iterator[Group]:
    """The groups of which enough was seen, with the order in which their channels go."""
    modules: dict[str, Any] = {name: module for module, name in names.items()}
    for root, reading, writers in _groups(graph, names):
        if all(seen[name].rows >= FEWEST * len(seen[name].square) for name, _ in reading):
            parts = [Reader(modules[name].weight.detach(), seen[name], numbers) for name, numbers in reading]
            channels = len(reading[0][1])
            order, cost = eliminate(parts, channels)
            yield Group(root, order, cost, channels, tuple(writers), tuple(name for name, _ in reading))


def _multiply_adds(network: nn.Module, size: int) -> dict[str, int]:
    """Of each layer on one image."""
    spent: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: Any, _inputs: object, output: Tensor) -> None:
            spent[name] = spent.get(name, 0) + output.numel() * module.weight[0].numel()

        return hook

    hooks = [m.register_forward_hook(note(name)) for name, m in network.named_modules() if isinstance(m, LAYERS)]
    with torch.no_grad():
        _head(network, torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return spent


def _chosen(groups: Sequence[Group], spent: Mapping[str, int], share: float) -> dict[str, list[int]]:
    """Of each group's root the channels that go: blocks by falling multiply-adds for their cost, up to the share."""
    left = {name: [1.0, 1.0] for name in spent}  # shares of a layer's inputs and outputs

    def total() -> float:
        return sum(much * left[name][0] * left[name][1] for name, much in spent.items())

    def width(group: Group, factor: float) -> None:
        for side, layers in enumerate((group.readers, group.writers)):
            for name in layers:
                left[name][side] *= factor

    whole, going, closed = total(), dict[str, list[int]](), set[str]()
    blocks = []
    for group in groups:
        each = sum(spent.get(name, 0) for name in (*group.readers, *group.writers)) / group.channels
        for before, after in pairwise(group.blocks()):
            blocks.append((group.cost[after - 1] / max(each, 1.0), group, before, after))
    for _, group, before, after in sorted(blocks, key=lambda block: block[0]):
        if group.root not in closed:
            factor = (group.channels - after) / (group.channels - before)
            width(group, factor)
            if total() < (1 - share) * whole:
                width(group, 1 / factor)
                closed.add(group.root)
            else:
                going[group.root] = sorted(group.order[:after])
    return going
