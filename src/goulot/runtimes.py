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
from goulot.taps import INPUT, Tapped, as_map, ends, pool, stages_of

Runtime = Literal["torch", "compile", "openvino"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}

Reader = Callable[[Tensor], dict[str, Tensor]]  # uint8 (B, H, W, 3) -> by column, (B, channels) or (B, C, H, W)


class Columns(nn.Module):
    """Pixels uint8 (B, H, W, 3) to a tuple of float32 columns: pooled taps (B, channels) and maps (B, C, H, W)."""

    def __init__(
        self, backbone: Backbone, columns: Mapping[str, tuple[str, str]], dtype: torch.dtype, exact: str = ""
    ) -> None:
        super().__init__()
        network = folded(deepcopy(backbone.network), backbone.preprocessing.input_size)
        network = _lowered(network, exact, dtype, backbone.preprocessing.input_size) if exact else network.to(dtype)
        self.network = network.to(memory_format=torch.channels_last)
        self._dtype, self._columns = torch.float32 if exact else dtype, tuple(columns.values())
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
    exact: str = "",
) -> Reader:
    """The backbone made ready to read `columns` of batches of exactly `batch`.

    Up to the tap `exact` it runs in float32, after it in `dtype`. Of a network that computes what follows from more
    than that tap's map this raises errors of many kinds, here or when it reads.
    """
    torch.set_num_threads(threads)
    names = list(columns)
    if runtime == "openvino":
        return _openvino(backbone, columns, dtype, batch, threads, exact)
    module = Columns(backbone, columns, DTYPES[dtype], exact).to(device)
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


def exact_taps(backbone: Backbone) -> list[str]:
    """The depths up to which a network may run in float32, shallow to deep: its stages."""
    stages = stages_of(backbone.network.model)
    return [tap.name for tap in backbone.known if tap.name in stages]


def _lowered(network: Tapped, tap: str, dtype: torch.dtype, size: int) -> Tapped:
    """The network in a shorter type from the tap's output on, in place."""
    model = network.model
    place = model.get_submodule(stages_of(model)[tap])
    with torch.inference_mode():
        done = ends(model, torch.zeros(1, 3, size, size))
    for module in model.modules():
        if done.get(module, len(done)) > done[place] and place not in module.modules():  # not what holds it
            for values in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if values.is_floating_point():
                    values.data = values.data.to(dtype)
    place.register_forward_hook(lambda _module, _inputs, output: output.to(dtype))  # the tap has been noted before
    return network


def _openvino(
    backbone: Backbone, columns: Mapping[str, tuple[str, str]], dtype: str, batch: int, threads: int, exact: str
) -> Reader:
    """One compiled model, or two in a row where it starts in float32."""
    import openvino

    size = backbone.preprocessing.input_size
    core = openvino.Core()

    def compiled(model: Any, precision: str) -> Callable[[Any], list[Tensor]]:
        made = core.compile_model(model, "CPU", {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        })  # fmt: skip

        def run(values: Any) -> list[Tensor]:
            outputs = made(values)
            return [torch.from_numpy(outputs[i].copy()) for i in range(len(outputs))]

        return run

    example = torch.zeros((batch, size, size, 3), dtype=torch.uint8)
    order = [tap.name for tap in backbone.known]
    early = {c: of for c, of in columns.items() if exact and order.index(of[0]) <= order.index(exact)}
    late = {c: of for c, of in columns.items() if c not in early}
    if not exact or not late:
        model, _alive = _converted(backbone, columns, example)
        whole = compiled(model, "float32" if exact else dtype)
        return lambda pixels: dict(zip(columns, whole(pixels.numpy()), strict=True))
    model, _alive = _converted(backbone, {**early, **late, "": (exact, "map")}, example)
    first, second = _parted(model, len(early))
    front, back = compiled(first, "float32"), compiled(second, dtype)

    def read(pixels: Tensor) -> dict[str, Tensor]:
        *found, boundary = front(pixels.numpy())
        return dict(zip([*early, *late], [*found, *back(boundary.numpy())], strict=True))

    return read


def _converted(backbone: Backbone, columns: Mapping[str, tuple[str, str]], example: Tensor) -> tuple[Any, Any]:
    """The network as OpenVINO has it, and what must live until it is compiled, since its weights may lie there.

    By the front end itself: `openvino.convert_model` would report its use to the vendor.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    module = Columns(backbone, columns, torch.float32)
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of tracing, which OpenVINO still works by
        decoder = TorchScriptPythonDecoder(module, example_input=(example,))
        model = frontend.convert(frontend.load(decoder))
    model.reshape({model.inputs[0]: list(example.shape)})
    return model, (module, decoder)


def _parted(model: Any, early: int) -> tuple[Any, Any]:
    """A model whose last result is a map, as two: to its first `early` results and the map, from that to the others."""
    import numpy as np
    from openvino import Model, opset13

    *results, last = model.results
    boundary = last.input_value(0)
    while boundary.get_node().get_type_name() in ("Convert", "ConvertLike"):
        boundary = boundary.get_node().input_value(0)
    front = Model([*results[:early], last], model.get_parameters(), "front").clone()
    given = opset13.parameter(boundary.get_shape(), np.float32)
    for reader in list(boundary.get_target_inputs()):
        reader.replace_source_output(given.output(0))
    return front, Model(results[early:], [given], "back")
