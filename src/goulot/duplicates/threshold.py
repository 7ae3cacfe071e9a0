"""The likeness from which a pair counts as duplicates, chosen from the data set's own images.

Copies of a sample of its images are made and looked at as any pair is; the candidate pairs that are no copies are
thought to thin out exponentially. Both are seen on the scale -log(1 - likeness).
"""

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from goulot.duplicates.thumbnails import thumbnail

LEAST, MOST = 0.8, 0.9999
STEPS = 2000
ASSUMED = 0.01  # copies, as a share of the images, where fewer are seen
SLACK = 0.005
FEWEST = 20  # pairs that a tail is told from
TAIL = 0.005  # share of the pairs that are a tail


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 20, height // 20, width - width // 20, height - height // 20))


CHANGES: tuple[Callable[[Image.Image], Image.Image], ...] = (
    lambda image: image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS),
    _jpeg,
    _crop,
    lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    lambda image: image.transpose(Image.Transpose.ROTATE_90),
    lambda image: ImageEnhance.Brightness(image).enhance(0.75),
)


def planted(image: Image.Image, number: int) -> np.ndarray:
    """The thumbnail of a copy: half the size, JPEG, a crop, a mirror image, a quarter turn or darker, in turn."""
    return thumbnail(CHANGES[number % len(CHANGES)](image))


def choose(copies: np.ndarray, candidates: np.ndarray, images: int) -> float:
    """The likeness with the best estimated F-score; the middle of all that are nearly as good."""
    good, seen = np.sort(_scale(copies)), np.sort(_scale(candidates))
    at = np.linspace(_scale(np.array(LEAST)), _scale(np.array(MOST)), STEPS)
    recall = 1 - np.searchsorted(good, at) / len(good)
    # No more of them than there are can be no copies.
    false = np.minimum(_tail(seen, float(np.quantile(good, 0.01)), at), len(seen) - np.searchsorted(seen, at))
    middle = float(np.median(good))
    real = 2 * (len(seen) - np.searchsorted(seen, middle) - np.interp(middle, at, false))
    real = max(real, ASSUMED * images)
    score = 2 * recall * real / (recall * real + false + real)
    fair = at[score >= score.max() - SLACK]
    return float(1 - np.exp(-(fair[0] + fair[-1]) / 2))


def _tail(seen: np.ndarray, end: float, at: np.ndarray) -> np.ndarray:
    """How many of the candidates above each place are no copies, from the fall of those below `end`."""
    below = seen[seen < end]
    if len(below) < FEWEST:
        return np.zeros(len(at))
    # Of very many the last hundred may all be copies of another kind than those that were made.
    last = max(5 * FEWEST / len(below), TAIL)
    start = float(np.quantile(below, max(0.9, 1 - last)))
    over = below[below > start] - start
    rate = float(np.log(2)) / max(float(np.median(over)) if len(over) else 0.0, 1e-3)
    return len(over) * np.exp(-rate * (at - start))


def _scale(likeness: np.ndarray) -> np.ndarray:
    return np.asarray(-np.log(np.maximum(1 - likeness.astype(np.float64), 1e-6)))


def histogram(copies: np.ndarray, candidates: np.ndarray, threshold: float) -> pd.DataFrame:
    """Counts in equal bins of -log10(1 - likeness): likeness (of the bin's lower end), what, pairs, duplicates."""
    edges = np.linspace(0, 5, 51)
    rows = []
    for what, values in (("planted copies", copies), ("candidate pairs", candidates)):
        counts, _ = np.histogram(np.clip(_scale(values) / np.log(10), 0, 5), edges)
        lower = 1 - 10 ** -edges[:-1]
        rows.append(pd.DataFrame({"likeness": lower, "what": what, "pairs": counts, "duplicates": lower >= threshold}))
    return pd.concat(rows, ignore_index=True)
