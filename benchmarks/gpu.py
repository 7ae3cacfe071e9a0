"""What a GPU and the cores beside it do alone, in images a second: JPEGs decoded and resized, ResNet-50 run forward.

    python benchmarks/gpu.py [--images 2048] [--allocator]

The JPEGs are those of `extraction.py --jpeg`. What of it a network's extraction reaches, that benchmark says.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from extraction import photograph, processor

from goulot import jpegs
from goulot.__main__ import ALLOCATOR
from goulot.backbones import BackboneParams, load
from goulot.engine import Engine
from goulot.images import decode

BATCH = 256


def main() -> None:
    """Make the images, time each part, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--allocator", action="store_true", help="with the settings that goulot gives itself")
    args = parser.parse_args()
    count = args.images
    if args.allocator and not ALLOCATOR.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    print(f"{processor()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(count)]
        with ProcessPoolExecutor() as workers:
            list(workers.map(photograph, paths, range(count), chunksize=32))
        data = [path.read_bytes() for path in paths]
    backbone = load("resnet50", BackboneParams(model="resnet50", weights="random", input_size=224))
    ways: dict[str, Callable[[bytes], object]] = {"decode": lambda one: np.asarray(decode(one))}
    for name in ("pillow", "torch"):
        resize = backbone.preprocessing.resize(name)
        ways[f"decode, resize by {name}"] = lambda one, resize=resize: resize(decode(one))
    torch.set_num_threads(1)
    for what, way in ways.items():
        for threads in (1, len(os.sched_getaffinity(0))):
            with ThreadPoolExecutor(threads) as workers:
                say(f"{what}, {threads} threads", count, lambda w=workers, f=way: list(w.map(f, data)))
    if not torch.cuda.is_available():
        return
    opened = [jpeg for one in data if (jpeg := jpegs.opened(memoryview(one)))]
    resizes = {"": lambda images: images, ", resize by torch": backbone.preprocessing.quick(),
               ", resize by products": backbone.preprocessing.products()}  # fmt: skip
    for what, resize in resizes.items():
        for size in (BATCH // 4, BATCH):
            pieces = [opened[at : at + size] for at in range(0, count, size)]
            say(f"decode by nvJPEG, {size} at once{what}", count,
                lambda p=pieces, r=resize: every(jpegs.decode(some, r, "cuda") for some in p))  # fmt: skip
    pixels = torch.randint(0, 256, (BATCH, 224, 224, 3), dtype=torch.uint8).pin_memory()
    taps = {f"{t.name}.{p}": (t.name, p) for t in backbone.taps for p in t.poolings(("avg", "max")).values()}
    for runtime in ("torch", "compile"):
        for dtype in ("float16", "bfloat16"):
            reader = Engine("cuda", dtype, BATCH, 1, runtime).reader(backbone, taps)
            say(f"forward pass, {dtype} by {runtime}", 30 * BATCH, lambda r=reader: every(r(pixels) for _ in range(30)))


def every(results: Iterable[object]) -> None:
    """Make them all, and wait for the GPU."""
    for _ in results:
        pass
    torch.cuda.synchronize()


def say(what: str, images: int, work: Callable[[], object]) -> None:
    """Print how fast the work goes, the second time."""
    work()
    start = time.perf_counter()
    work()
    print(f"{what:52} {images / (time.perf_counter() - start):8,.0f}", flush=True)


if __name__ == "__main__":
    main()
