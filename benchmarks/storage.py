"""What features cost to keep, and what is lost by keeping less: bytes an image against the accuracy of a linear probe.

    python benchmarks/storage.py [--images 2624] [--backbone lite0]

The sample's images as they are (no views), one backbone. Each line is a way to keep them: its bytes an image before and
after compression, and the area under the curve and the accuracy of a logistic regression on what it gives back, cross-
validated on the folds of `split` (maps are averaged over their places first, so that only what was kept differs).
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from extraction import goulot
from ruamel.yaml import YAML
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Extract with maps in both forms, probe, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2624)
    parser.add_argument("--backbone", default="lite0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        params = YAML(typ="safe").load(ROOT / "params.yaml")
        params["fetch"]["limit"] = args.images
        params["augment"]["views"] = 0
        backbone = {**params["extract"]["backbones"][args.backbone], "maps": ["map"]}
        params["extract"]["backbones"] = {args.backbone: backbone}
        print(f"{args.backbone}, {args.images:,} images of the sample")
        print("kept                              bytes   compressed   ROC AUC   accuracy")
        for form in ("float16", "int8"):
            params["extract"]["maps"] = form
            params["audit"]["backbone"] = args.backbone
            YAML().dump(params, Path("params.yaml"))
            for stage in ("fetch", "ingest", "augment") if form == "float16" else ():
                goulot(stage)
            goulot("extract", args.backbone)
            for stage in ("audit", "split") if form == "float16" else ():
                goulot(stage)
            lines(args.backbone, form)


def lines(backbone: str, form: str) -> None:
    """Print the lines that this form of maps gives; the vectors once."""
    from goulot import features, layout, truth

    known = truth.read().train
    rows = known.images.assign(view=0)
    reader = features.Features(rows)
    meta = json.loads((layout.features(backbone) / "meta.json").read_text())
    channels, height, width = meta["maps"]["map.map"]["shape"]
    whole = reader.maps(backbone, "map.map")
    pooled = np.concatenate([whole.read(part).mean((2, 3)) for part in np.array_split(np.arange(len(rows)), 32)])
    if form == "float16":
        show("last map, float32 (not kept)", 4 * channels * height * width, None, None)
        everything = [(backbone, column) for column in meta["columns"]]
        total = sum(about["bytes"] for about in meta["columns"].values())
        show("all depths, pooled, float16", total, total, probe(reader.read(everything), known))
        head = reader.read([(backbone, "head")])
        show("last depth, pooled, float16", 2 * channels, 2 * channels, probe(head, known))
        scale = np.abs(head).max(axis=1, keepdims=True) / 127
        show("last depth, pooled, int8", channels + 4, channels + 4, probe(np.rint(head / scale) * scale, known))
    plain = 2 * channels * height * width if form == "float16" else channels * (height * width + 4)
    show(f"last map, {form}", plain, meta["maps"]["map.map"]["bytes"], probe(pooled, known))


def probe(X: np.ndarray, known: object) -> tuple[float, float]:
    """Out-of-fold ROC AUC and accuracy of a logistic regression."""
    values = np.zeros(len(X))
    for fold in np.unique(known.fold):
        inside = known.fold != fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=500))
        model.fit(X[inside], known.y[inside])
        values[~inside] = model.predict_proba(X[~inside])[:, 1]
    return roc_auc_score(known.y, values), accuracy_score(known.y, values > 0.5)


def show(kept: str, plain: float, compressed: float | None, scores: tuple[float, float] | None) -> None:
    """Print one line."""
    small = f"{compressed:12,.0f}" if compressed else f"{'':12}"
    print(f"{kept:30}{plain:9,.0f} {small}" + (f"{scores[0]:10.4f}{scores[1]:11.4f}" if scores else ""), flush=True)


if __name__ == "__main__":
    main()
