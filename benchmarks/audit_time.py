"""What `audit` takes of very many images, by its parts, and what it finds of copies planted among them.

    python benchmarks/audit_time.py [--images 50000] [--copies 250]

The images are drawn, gray, 96 pixels: a texture of each one's own on one of 40 shared backgrounds, so that many are
alike. Copies are those of benchmarks/leaks.py. Features are EfficientNet-Lite0's (ImageNet weights) at 64 pixels, which
cost little; the vectors that `audit` compares are as long as at 224. Printed are each stage's seconds, of the clock and
of the processor, its largest anonymous memory (Linux), and what `audit` says of its parts, of which reading the images
is not its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from leaks import plant, settings, show
from PIL import Image
from pipeline import watch

BACKGROUNDS = 40
SIDE = 96


def textures(count: int) -> list[Image.Image]:
    """Gray images, each with a texture of its own on one of a few backgrounds."""
    rng = np.random.default_rng(2)
    backgrounds = [_smooth(rng, 6) for _ in range(BACKGROUNDS)]
    pixels = (0.6 * backgrounds[number % BACKGROUNDS] + 0.4 * _smooth(rng, 14) for number in range(count))
    return [Image.fromarray(image.astype(np.uint8)) for image in pixels]


def _smooth(rng: np.random.Generator, places: int) -> np.ndarray:
    noise = Image.fromarray(rng.uniform(0, 255, (places, places)).astype(np.uint8))
    return np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)


def main() -> None:
    """Draw, plant, run the stages, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--copies", type=int, default=250, help="of each kind")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = plant(folder / "competition", textures(args.images), args.copies)
        settings(folder, input_size=64)
        env = {**os.environ, "GOULOT_ENGINES": str(folder / "engines")}
        for stage in ("fetch", "ingest", "augment", "extract lite0", "audit"):
            peaks: dict[str, int] = {}
            start, used = time.monotonic(), _used()
            # `watch` looks at descendants: a shell stands between.
            script = ["sh", "-c", f"{sys.executable} -m goulot {stage} 2>log || exit 1; true"]
            process = subprocess.Popen(script, cwd=folder, env=env)
            watch(process, peaks)
            if process.returncode:
                sys.exit(f"{stage}: {(folder / 'log').read_text()[-2000:]}")
            spent = f"{time.monotonic() - start:.0f} s ({_used() - used:.0f} s of the processor)"
            print(f"{stage}: {spent}, {max(peaks.values(), default=0) / 2**20:,.0f} MiB", flush=True)
        print((folder / "log").read_text())
        show("textures", planted, pd.read_parquet(folder / "data/audit/pairs.parquet"))


def _used() -> float:
    """Seconds of the processor that finished stages took."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


if __name__ == "__main__":
    main()
