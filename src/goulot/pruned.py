"""Pruned networks as files: the tensors of a network some of whose layers are narrower, and the sizes that make it so.

A safetensors file, so that opening it runs no code. Its header names the network and, for each module that differs from
the whole network's, the whole numbers among its attributes that do (`out_channels`, `groups`, `num_features`); what the
network computes beside them must be the same code's.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from goulot.artifacts import write_bytes
from goulot.errors import WeightsError

HEADER = "goulot.pruned"  # the one entry of the file's header: several would be written in any order


@dataclass(frozen=True)
class Cut:
    """The network that was pruned, by its name, and the sizes of its modules that are no longer that network's."""

    model: str
    modules: dict[str, dict[str, int]]


def compare(model: str, whole: nn.Module, narrow: nn.Module) -> Cut:
    """What makes the whole network narrow: every module with a tensor of another shape, and its other numbers.

    Neither has a classifier; the whole one's is taken off here.
    """
    whole.reset_classifier(0)  # type: ignore[operator]
    modules = {}
    for name, module in narrow.named_modules():
        other = whole.get_submodule(name)
        shapes, others = ({key: t.shape for key, t in _own(m).items()} for m in (module, other))
        sizes, before = _sizes(module), _sizes(other)
        changed = {key: value for key, value in sizes.items() if before.get(key) != value}
        if changed or shapes != others:
            modules[name] = changed
    return Cut(model, modules)


def write(path: Path, network: nn.Module, cut: Cut) -> None:
    """Write the file; the same network gives the same bytes."""
    tensors = {key: value.detach().clone().contiguous() for key, value in network.state_dict().items()}
    header = json.dumps(asdict(cut), sort_keys=True, separators=(",", ":"))
    write_bytes(path, lambda file: file.write(save(tensors, metadata={HEADER: header})))


def read(path: Path, where: str) -> Cut | None:
    """What the file's header says, None of an ordinary one. Raises WeightsError where it is garbled."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(HEADER)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{where}: {path.name} is no state dict ({type(error).__name__})") from error
    if header is None:
        return None
    try:
        found = json.loads(header)
        modules = {str(name): {str(k): int(v) for k, v in sizes.items()} for name, sizes in found["modules"].items()}
        return Cut(str(found["model"]), modules)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{where}: {path.name} does not say how it was pruned; prune it anew") from error


def narrowed(network: nn.Module, cut: Cut, state: Mapping[str, Tensor], file: str, where: str) -> nn.Module:
    """The network made as narrow as the file's tensors and loaded with them, without a classifier; changed in place.

    Raises WeightsError naming what does not fit: a module or size that the network has not, or a tensor outside of what
    was pruned whose shape is not the network's.
    """
    network.reset_classifier(0)  # type: ignore[operator]
    own = network.state_dict()
    if set(own) != set(state):
        lacking, foreign = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        what = f"lacks {lacking[0]}" if lacking else f"has {foreign[0]}, which the network has not"
        raise WeightsError(f"{where}: {file} {what}")
    modules = dict(network.named_modules())
    for name, sizes in cut.modules.items():
        if name not in modules or not sizes.keys() <= _sizes(modules[name]).keys():
            raise WeightsError(f"{where}: {file} prunes {name} ({', '.join(sizes)}), which {cut.model} has not")
        for key, value in sizes.items():
            setattr(modules[name], key, value)
        for key, tensor in _own(modules[name]).items():
            _replace(modules[name], key, tensor, state[f"{name}.{key}"])
    for key, tensor in network.state_dict().items():
        before, given = tuple(own[key].shape), tuple(state[key].shape)
        if len(before) != len(given) or any(n > most for n, most in zip(given, before, strict=True)) or (
            given != tuple(tensor.shape)
        ):  # fmt: skip
            raise WeightsError(f"{where}: {file} has {given} where {key} is {before}")
    network.load_state_dict(dict(state))
    return network


def _own(module: nn.Module) -> dict[str, Tensor]:
    """The module's own parameters and those of its buffers that a state dict has."""
    buffers = {k: b for k, b in module.named_buffers(recurse=False) if k not in module._non_persistent_buffers_set}
    return {**dict(module.named_parameters(recurse=False)), **buffers}


def _sizes(module: nn.Module) -> dict[str, int]:
    """Its attributes that are whole numbers."""
    return {k: v for k, v in vars(module).items() if type(v) is int and not k.startswith("_")}


def _replace(module: nn.Module, key: str, old: Tensor, new: Tensor) -> None:
    blank = torch.empty(new.shape, dtype=old.dtype)
    if isinstance(old, nn.Parameter):
        setattr(module, key, nn.Parameter(blank, requires_grad=False))
    else:
        module.register_buffer(key, blank)
