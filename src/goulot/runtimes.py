"""Runtimes: what executes a network. Each makes a reader: pixels in, the wanted columns of its taps out.

Normalisation and pooling are part of what runs, so that a runtime may fuse them and only the columns leave it.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from goulot.backbones import Backbone
from goulot.folding import folded
from goulot.taps import INPUT, as_map, pool

Runtime = Literal["torch", "compile", "openvino"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}

Reader = Callable[[Tensor], dict[str, Tensor]]  # uint8 (B, H, W, 3) -> by column, (B, channels) or (B, C, H, W)


class Columns(nn.Module):
    """Pixels uint8 (B, H, W, 3) to a tuple of float32 columns: pooled taps (B, channels) and maps (B, C, H, W)."""

    def __init__(self, backbone: Backbone, columns: Mapping[str, tuple[str, str]], dtype: torch.dtype) -> None:
        super().__init__()
        network = folded(deepcopy(backbone.network), backbone.preprocessing.input_size)
        self.network = network.to(dtype).to(memory_format=torch.channels_last)
        self._dtype, self._columns = dtype, tuple(columns.values())
        self._taps = {tap.name: (tap.kind, tap.prefix) for tap in backbone.known}
        config = backbone.preprocessing
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, torch.tensor(values).mul(255).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Normalise, run the network once, pool."""
        images = pixels.permute(0, 3, 1, 2)  # (B, 3, H, W), channels last
        normalised = (images.float() - self.mean) / self.std  # type: ignore[operator]
        outputs = {**self.network(normalised.to(self._dtype)), INPUT: normalised}
        found = []
        for tap, pooling in self._columns:
            kind, prefix = self._taps[tap]
            if pooling == "map":
                found.append(as_map(outputs[tap], kind, prefix).float())
            else:
                found.append(pool(outputs[tap], pooling, kind, prefix))
        return tuple(found)


def load(
    runtime: Runtime,
    backbone: Backbone,
    columns: Mapping[str, tuple[str, str]],
    device: str,
    dtype: str,
    batch: int,
    threads: int,
) -> Reader:
    """The backbone made ready to read `columns` of batches of exactly `batch`."""
    torch.set_num_threads(threads)
    names = list(columns)
    if runtime == "openvino":
        run = _openvino(Columns(backbone, columns, torch.float32), backbone, dtype, batch, threads)
        return lambda pixels: dict(zip(names, run(pixels), strict=True))
    module = Columns(backbone, columns, DTYPES[dtype]).to(device)
    called: Callable[[Tensor], tuple[Tensor, ...]] = module
    if runtime == "compile":
        options: dict[str, Any] = {"freezing": True} if device == "cpu" else {"triton.cudagraphs": True}
        compiled = torch.compile(module, dynamic=False, options=options)
        # A graph's next run overwrites what its last one gave.
        called = compiled if device == "cpu" else lambda pixels: tuple(found.clone() for found in compiled(pixels))

    def read(pixels: Tensor) -> dict[str, Tensor]:
        with torch.inference_mode() if runtime == "torch" else torch.no_grad():
            return dict(zip(names, called(pixels.to(device, non_blocking=True)), strict=True))

    return read


def available() -> dict[str, str]:
    """The versions of the runtimes beside torch that are installed."""
    return {"openvino": version("openvino")} if find_spec("openvino") else {}


def unavailable(runtime: Runtime, device: str, dtype: str) -> str:
    """Why a runtime cannot be used here, with the fix; empty if it can. A dtype of `auto` can always be met."""
    if runtime == "openvino":
        if device != "cpu":
            return "OpenVINO is for the CPU here; set extract.device to cpu"
        if dtype not in ("auto", *PRECISIONS):
            return f"extract.dtype is {dtype}, and OpenVINO on a CPU has {' and '.join(PRECISIONS)}; set one of them"
        return "" if find_spec("openvino") else "OpenVINO is not installed; pip install 'goulot[openvino]'"
    if runtime == "compile" and device == "cuda":
        return "" if find_spec("triton") else "torch.compile needs Triton on a GPU; pip install triton"
    if runtime == "compile" and not any(shutil.which(c) for c in (os.environ.get("CXX") or "g++", "g++", "clang++")):
        return "torch.compile needs a C++ compiler; install g++"
    return ""


def _openvino(
    module: nn.Module, backbone: Backbone, dtype: str, batch: int, threads: int
) -> Callable[[Tensor], list[Tensor]]:
    """By the front end itself: `openvino.convert_model` would report its use to the vendor."""
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    size = backbone.preprocessing.input_size
    example = torch.zeros((batch, size, size, 3), dtype=torch.uint8)
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of tracing, which OpenVINO still works by
        decoder = TorchScriptPythonDecoder(module, example_input=(example,))  # must live until it is converted
        model = frontend.convert(frontend.load(decoder))
    model.reshape({model.inputs[0]: list(example.shape)})
    compiled = openvino.Core().compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": PRECISIONS[dtype], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    })  # fmt: skip

    def run(pixels: Tensor) -> list[Tensor]:
        outputs = compiled(pixels.numpy())
        return [torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))]

    return run
