"""Extraction on this machine: images a second, as ratios of things measured in one run.

    python benchmarks/extraction.py [--images 1000] [--model resnet50] [--batch 32] [--set extract.dtype=bfloat16]
    python benchmarks/extraction.py --jpeg --images 24000 --model resnet50 --repeats 1    # on a GPU

For each default backbone (or one timm network with random weights), on the sample's images, or with `--jpeg` on cuts of
scikit-learn's two photographs, 500 x 375 pixels at quality 90:

- plain: the loop that most people write: a timm model in eval mode, float32, a DataLoader with two workers, timm's
  own transform at the backbone's input size and crop, the pooled features of the last layer, on 2,000 images at most;
- end to end: `goulot extract` from an empty store, the images as they are (no views), every tap; without loading the
  network and the one-off trial that settles the engine;
- limit: 1 / (1/decode + 1/forward), each measured alone, since on a CPU both share the cores (on a GPU the slower);
- the least cosine similarity of the last layer's features to those of the plain loop.

What the trial measured to settle an engine is printed above. Each is a process of its own, and the three rates are
measured in turn, `--repeats` times; the medians count.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from sklearn.datasets import load_sample_images

ROOT = Path(__file__).resolve().parents[1]
PLAIN = 2000


def main() -> None:
    """Make the images, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="of the plain loop")
    parser.add_argument("--model", help="a timm network with random weights instead of the default backbones")
    parser.add_argument("--jpeg", action="store_true", help="JPEG photographs instead of the sample's images")
    parser.add_argument("--set", action="append", default=[], help="a param, e.g. extract.dtype=bfloat16")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURES[args.measure](args.model, args.batch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        names = prepare(args)
        what = "photographs" if args.jpeg else "images of the sample"
        print(f"{processor()}, {args.images:,} {what}, plain loop in batches of {args.batch}")
        print("backbone  plain   end to end  ratio   decode  forward  share of the limit  least cosine  engine")
        for name in names:
            rates = [{kind: measured(kind, name, args.batch) for kind in ("plain", "ours", "alone")}
                     for _ in range(args.repeats)]  # fmt: skip
            row(name, rates)


def prepare(args: argparse.Namespace) -> list[str]:
    """Write params.yaml and the stages before `extract`; return the backbones' names."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    if args.jpeg:
        photographs(Path("photographs"), args.images)
        params["fetch"] = {"source": "path:photographs", "watch": "photographs"}
        train = {"table": "train.csv", "id": "id", "label": "label", "image": "train/{id}.jpg"}
        params["ingest"] |= {"train": train, "test": None, "threads": len(os.sched_getaffinity(0))}
    else:
        params["fetch"]["limit"] = args.images
    params["augment"]["views"] = 0
    if args.model:
        params["extract"]["backbones"] = {args.model: {"model": args.model, "weights": "random"}}
    for setting in args.set:
        key, _, value = setting.partition("=")
        section, name = key.split(".")
        params[section][name] = YAML(typ="safe").load(value)
    YAML().dump(params, Path("params.yaml"))
    for stage in ("fetch", "ingest", "augment"):
        goulot(stage)
    return list(params["extract"]["backbones"])


def photographs(folder: Path, count: int) -> None:
    """Write train.csv and train/*.jpg, cuts of the two photographs that scikit-learn ships."""
    (folder / "train").mkdir(parents=True)
    with ProcessPoolExecutor() as workers:
        list(workers.map(photograph, (folder / "train" / f"{i}.jpg" for i in range(count)), range(count), chunksize=64))
    (folder / "train.csv").write_text("id,label\n" + "".join(f"{i},{i % 2}\n" for i in range(count)))


def photograph(path: Path, number: int) -> None:
    """Write a cut of the photograph of the number's parity, at a place and size of its own."""
    image = photos()[number % 2]
    rng = np.random.default_rng(number)
    height = int(rng.integers(200, 427))
    width = height * 4 // 3
    y, x = rng.integers(0, 427 - height), rng.integers(0, 640 - width)
    cut = image.crop((x, y, x + width, y + height)).resize((500, 375), Image.Resampling.BICUBIC)
    cut.save(path, quality=90)


@cache
def photos() -> list[Image.Image]:
    """Both, 640 x 427 pixels."""
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def goulot(*arguments: str) -> str:
    """Run a stage; return its log."""
    done = subprocess.run(
        [sys.executable, "-m", "goulot", *arguments], env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stderr


def environment() -> dict[str, str]:
    """The code of the checkout that holds this file."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


def measured(kind: str, name: str, batch: int) -> dict[str, Any]:
    """One measurement in a process of its own; `goulot` sets the allocator for itself, the parts alone get the same."""
    env = environment()
    if kind == "ours":
        subprocess.run(["rm", "-rf", ".goulot/store", "data/extract"], check=True)
        log = goulot("extract", name)
        found = [line for line in log.splitlines() if re.search("a batch takes|similarity of|does not decode", line)]
        print("".join(f"    {line}\n" for line in found), end="", flush=True)
        return {"rows/s": float(re.search(r"\(([\d.,]+) rows/s\)", log)[1].replace(",", ""))}
    if kind == "alone":
        from goulot.__main__ import SETTINGS

        env.update(SETTINGS)
    command = [sys.executable, __file__, "--measure", kind, "--model", name, "--batch", str(batch)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, rates: list[dict[str, dict[str, Any]]]) -> None:
    """Print the medians."""
    plain, ours = (median(r[kind]["rows/s"] for r in rates) for kind in ("plain", "ours"))
    decode, forward = (median(r["alone"][part] for r in rates) for part in ("decode", "forward"))
    device = rates[0]["alone"]["engine"]
    limit = min(decode, forward) if "cuda" in device else 1 / (1 / decode + 1 / forward)
    print(
        f"{name:9} {plain:6.0f} {ours:12.0f} {ours / plain:6.2f} {decode:8.0f} {forward:8.0f} {ours / limit:19.2f}"
        f" {cosine(name):13.5f}  {device}",
        flush=True,
    )


def cosine(name: str) -> float:
    """Least cosine similarity of the head's features to those that the plain loop left."""
    import pandas as pd

    ids = pd.read_parquet(f"data/extract/{name}/rows.parquet")["image_id"]
    plain = dict(zip(np.load("plain-ids.npy"), np.load("plain.npy"), strict=True))
    known = ids.isin(plain.keys()).to_numpy()
    one = np.load(f"data/extract/{name}/head.npy")[known].astype(float)
    other = np.stack([plain[image_id] for image_id in ids[known]]).astype(float)
    return float(((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).min())


def processor() -> str:
    """The CPU and its cores, and the GPU where there is one."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores"
    return f"{cpu}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else cpu


def plain(name: str, batch: int) -> dict[str, float]:
    """The loop that most people write."""
    import pandas as pd
    import torch
    from timm.data import create_transform, resolve_data_config
    from torch.utils.data import DataLoader, Dataset

    manifest = pd.read_parquet("data/ingest/manifest.parquet").head(PLAIN)
    files = [f"data/raw/{file}" for file in manifest["file"]]
    loaded = backbone(name)
    model, side = loaded.network.model.eval(), loaded.preprocessing.input_size
    wanted = {"input_size": (3, side, side), "crop_pct": loaded.preprocessing.crop_pct}
    transform = create_transform(**resolve_data_config(wanted, model=model))

    class Images(Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, i: int) -> torch.Tensor:
            return transform(Image.open(files[i]).convert("RGB"))

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    start = time.monotonic()
    with torch.no_grad():
        loader = DataLoader(Images(), batch_size=batch, num_workers=2)
        features = [model(pixels.to(device)).cpu() for pixels in loader]
    seconds = time.monotonic() - start
    np.save("plain.npy", torch.cat(features).numpy())
    np.save("plain-ids.npy", manifest["image_id"].to_numpy(dtype=str))
    return {"rows/s": len(files) / seconds}


def alone(name: str, _batch: int) -> dict[str, Any]:
    """Decoding alone, then the forward pass with its pooling alone, on the engine that was settled."""
    import pandas as pd

    from goulot import feeding, layout
    from goulot.engine import Engine
    from goulot.extraction import Wanted, forward
    from goulot.images import Shards
    from goulot.stages.extract import _plan

    manifest = pd.read_parquet(layout.MANIFEST)
    plan, shards, network = _plan(manifest), Shards(layout.SHARDS, manifest), backbone(name)
    engine = Engine(**json.loads(Path(f"data/extract/{name}/meta.json").read_text())["engine"])
    start = time.monotonic()
    batches = deque(feeding.batches(network, engine, shards, feeding.jobs(plan, set(plan["name"]))), maxlen=1)
    decode = len(plan) / (time.monotonic() - start)
    names, pixels = batches[0]
    wanted = Wanted.of(network, ("avg", "max"), "float16")
    reader = engine.reader(network, wanted.columns())

    def passes(count: int) -> float:
        start = time.monotonic()
        for _, outputs in forward([reader], engine, repeat((names, pixels), count), wanted):
            wanted.take(outputs, engine.batch, name)
        return count * engine.batch / (time.monotonic() - start)

    passes(2)
    return {"decode": decode, "forward": passes(max(8, len(plan) // engine.batch)), "engine": str(engine)}


def backbone(name: str) -> Any:
    """The network as `extract` loads it."""
    from goulot.backbones import BackboneParams, load

    return load(name, BackboneParams(**YAML(typ="safe").load(Path("params.yaml"))["extract"]["backbones"][name]))


MEASURES = {"plain": plain, "alone": alone}

if __name__ == "__main__":
    main()
