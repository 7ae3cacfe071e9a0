"""The processor: its name, the cores that this process may use, and what it computes in by itself."""

import os
import platform
from pathlib import Path


def name() -> str:
    """As the system gives it; another processor may round otherwise."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def cores() -> int:
    """The cores this process may use; macOS only knows those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def computes_bfloat16() -> bool:
    """Whether it multiplies bfloat16 numbers itself. OneDNN also does where that takes it longer than in float32."""
    import torch

    able = (getattr(torch.cpu, what, None) for what in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and ask() for ask in able)
