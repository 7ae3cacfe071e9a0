"""What is kept of each image: a digest of its pixels and a small gray thumbnail, and the eight poses of a square."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from goulot.artifacts import blank_array, sha256
from goulot.images import Shards
from goulot.progress import track

SIDE = 128
# A pose is transposed + 2 * upside down + 4 * mirrored: the image is mirrored and turned upside down, then transposed.
POSES = (
    "upright", "transposed", "upside down", "turned right", "mirrored", "turned left", "turned by half", "transversed",
)  # fmt: skip


def read(manifest: pd.DataFrame, shards: Shards, file: Path, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode every image once, a few at a time.

    Gives the digests of their pixels, object (n,), and their thumbnails, uint8 (n, SIDE, SIDE), mapped from `file`:
    they take 16 KiB an image and stay out of anonymous memory.
    """

    def look(place: tuple[str, int, str]) -> tuple[str, np.ndarray]:
        image = shards.decode(*place)
        return sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()), thumbnail(image)

    places = list(zip(manifest["shard"], manifest["row"], manifest["image_id"], strict=True))
    digests = np.empty(len(places), dtype=object)
    file.parent.mkdir(parents=True, exist_ok=True)
    small = blank_array(file, np.uint8, (len(places), SIDE, SIDE))
    with ThreadPoolExecutor(threads) as pool:
        looked = track(pool.map(look, places), total=len(places), unit="images", label="audit")
        for number, (digest, pixels) in enumerate(looked):
            digests[number], small[number] = digest, pixels
    return digests, small


def thumbnail(image: Image.Image) -> np.ndarray:
    """Gray, squeezed into a square, uint8 (SIDE, SIDE)."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def posed(images: np.ndarray, pose: int) -> np.ndarray:
    """Square images (..., side, side) in one of the eight poses; a view, not a copy."""
    if pose & 4:
        images = images[..., ::-1]
    if pose & 2:
        images = images[..., ::-1, :]
    return images.swapaxes(-1, -2) if pose & 1 else images


def halved(images: np.ndarray) -> np.ndarray:
    """Half the side by means of four pixels, float32 (n, side / 2, side / 2)."""
    rows = np.add(images[:, ::2], images[:, 1::2], dtype=np.float32)
    return np.asarray((rows[..., ::2] + rows[..., 1::2]) / 4)
