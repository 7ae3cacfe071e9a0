"""Of the section on features: the images as a map, near each other where the stacked features are alike."""

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from goulot import layout
from goulot.features import Features, read_choice
from goulot.reporting.finished import Run
from goulot.reporting.page import Map, jpeg

POINTS, LEAST = 1000, 12
SIDE, COLUMNS = 56, 40  # of the thumbnails, and how many stand in a row of the sprite
PIXELS = 1e9  # decoded for thumbnails at most; the points beyond have none
NAMED = 7  # classes with a colour of their own


def draw(run: Run) -> list[Map]:
    """At most 1,000 images of both sets; none where there are too few for a map."""
    images = run.manifest[["image_id", "split", "width", "height"]]
    if len(images) > POINTS:
        images = images.sample(POINTS, random_state=0)
    if len(images) < LEAST:
        return []
    X = Features(images.assign(view=0)).read(read_choice(layout.CHOICE)["all"])
    points = place(X)
    pixels = np.cumsum(images["width"].to_numpy(float) * images["height"].to_numpy(float))
    with_picture = int((pixels <= PIXELS).sum())
    most = f"{len(images):,} of {len(run.manifest):,} images" if len(images) < len(run.manifest) else "all images"
    return [Map(
        caption=f"Map of {most}: t-SNE of the stacked features' first components. Near means alike; distances between "
        "far groups mean little.",
        points=points, notes=_notes(run, images), colours=_colours(run, images),
        sprite=_sprite(run, images["image_id"].tolist()[:with_picture]), side=SIDE, columns=COLUMNS,
        thumbnails=with_picture,
    )]  # fmt: skip


def place(X: np.ndarray, *, seed: int = 0) -> list[tuple[float, float]]:
    """Points in 0 to 100 of features, float (n, channels): PCA, then t-SNE (van der Maaten and Hinton, 2008)."""
    components = min(50, len(X) - 1, X.shape[1])
    with threadpool_limits(1):  # so that the map does not depend on the number of cores
        Z = StandardScaler().fit_transform(X)
        if X.shape[1] < 2 or not Z.any():
            xy = np.c_[Z[:, 0], np.zeros(len(Z))]
        else:
            Z = PCA(components, random_state=seed).fit_transform(Z)
            perplexity = min(30.0, (len(X) - 1) / 3)
            xy = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed).fit_transform(Z)
    low, high = xy.min(axis=0), xy.max(axis=0)
    xy = (xy - low) / np.where(high > low, high - low, 1) * 96 + 2
    return [(round(float(x), 1), round(float(y), 1)) for x, y in xy]


def _rows(run: Run, images: pd.DataFrame) -> np.ndarray:
    """Each image's place among the training images, -1 in the test set."""
    return np.asarray(pd.Index(run.known.images["image_id"]).get_indexer(images["image_id"]))


def _notes(run: Run, images: pd.DataFrame) -> list[str]:
    notes = []
    for image_id, row in zip(images["image_id"], _rows(run, images), strict=True):
        if row < 0:
            notes.append(f"{image_id}: not labelled")
            continue
        given, guess = run.said(run.known.y[row]), run.said(run.guesses[row])
        notes.append(f"{image_id}: {given}" + (f", taken for {guess}" if guess != given else ""))
    return notes


def _colours(run: Run, images: pd.DataFrame) -> list[tuple[str, list[str], list[int]]]:
    """By label, by fold and by whether the blend is right; the last value is that of the test set."""
    rows = _rows(run, images)
    by = [("label", *_labels(run)), ("fold", *_folds(run))]
    if run.known.target.task != "regression":
        wrong = (run.guesses != run.known.y).reshape(len(run.known.y), -1).any(axis=1)
        by.append(("blend", ["right", "wrong"], wrong.astype(int)))
    return [
        (name, [*values, "test set"], np.where(rows < 0, len(values), number[rows]).tolist())
        for name, values, number in by
    ]


def _labels(run: Run) -> tuple[list[str], np.ndarray]:
    """The most frequent labels or sets of labels by name, the others as one; numbers by fifths of the first column."""
    y, target = run.known.y, run.known.target
    if target.task == "regression":
        return run.kinds, np.argmax([run.inside(kind) for kind in range(len(run.kinds))], axis=0)
    if target.exclusive and len(target.names) <= NAMED:
        return target.names, y
    said = pd.Series([run.said(row) for row in y])
    named = said.value_counts().index[:NAMED].tolist()
    number = {name: i for i, name in enumerate(named)}
    names = [*named, "others"] if said.nunique() > NAMED else named
    return names, said.map(number).fillna(len(named)).astype(int).to_numpy()


def _folds(run: Run) -> tuple[list[str], np.ndarray]:
    folds = sorted(set(run.known.fold.tolist()))
    return [f"fold {f}" for f in folds], np.searchsorted(folds, run.known.fold)


def _sprite(run: Run, image_ids: list[str]) -> str:
    rows = max(-(-len(image_ids) // COLUMNS), 1)
    sprite = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), "gray")
    for number, image in enumerate(run.pictures(image_ids, SIDE)):
        y, x = divmod(number, COLUMNS)
        sprite.paste(image, (x * SIDE, y * SIDE))
    return jpeg(sprite, 65)
