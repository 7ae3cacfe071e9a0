"""One image laid on another by a scale and a shift of each axis: Gauss-Newton steps (Lucas and Kanade 1981).

Gain and offset of the brightness are unknowns beside them. A line of an axis is (scale, start): place u of the image
that is laid on shows place scale * u + start of the other, both in [0, 1].
"""

from functools import cache

import numpy as np

NOISE = 0.3  # gray levels, of rounding: contrast below it is no likeness
SATURATED = 250
MARGIN = 3  # pixels at the border, which a crop has from elsewhere
LEAST_SEEN = 0.15


def refine(whole: np.ndarray, part: np.ndarray, y: np.ndarray, x: np.ndarray, sigma: float, steps: int) -> None:
    """Improve the lines y and x, float32 (n, 2), in place; `part` lies within `whole`, float32 (n, side, side)."""
    fixed, moving = blurred(part, sigma), blurred(whole, sigma)
    for _ in range(steps):
        dy, dx = _step(moving, fixed, y, x)
        y[:], x[:] = _bounded(y + dy), _bounded(x + dx)


def likeness(whole: np.ndarray, part: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Correlation of `part` with what it shows of `whole`, (n,), where neither is burnt out."""
    side = part.shape[-1]
    seen = _sampler(y, side) @ whole @ _sampler(x, side).swapaxes(1, 2)
    good = blurred(((seen < SATURATED) & (part < SATURATED)).astype(np.float32), 1.5) > 0.98
    good[:, :MARGIN] = good[:, -MARGIN:] = good[:, :, :MARGIN] = good[:, :, -MARGIN:] = False
    good[good.mean(axis=(1, 2)) < LEAST_SEEN] = True
    weight = good.astype(np.float32)
    count = weight.sum(axis=(1, 2))
    a, b = (_centred(blurred(image, 1.0), weight, count) for image in (seen, part))
    power = [(weight * image**2).sum(axis=(1, 2)) + NOISE**2 * count for image in (a, b)]
    return np.asarray(np.clip((weight * a * b).sum(axis=(1, 2)) / np.sqrt(power[0] * power[1]), 0, 1))


def _centred(image: np.ndarray, weight: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.asarray(image - ((weight * image).sum(axis=(1, 2)) / count)[:, None, None])


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Images (n, side, side) under a Gaussian blur."""
    matrix = _blur(sigma, images.shape[-1])
    return np.asarray(matrix @ images @ matrix.T)


@cache
def _blur(sigma: float, side: int) -> np.ndarray:
    apart = np.arange(side)[:, None] - np.arange(side)
    weights = np.exp(-0.5 * (apart / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


@cache
def _centres(side: int) -> np.ndarray:
    return ((np.arange(side) + 0.5) / side).astype(np.float32)


def _bounded(line: np.ndarray) -> np.ndarray:
    scale = np.clip(line[:, 0], 0.75, 1.05)
    return np.stack([scale, np.clip(line[:, 1], -0.03, 1.03 - scale)], axis=1)


def _sampler(line: np.ndarray, side: int, shift: float = 0.0) -> np.ndarray:
    """Linear interpolation along a line as matrices (n, side, side)."""
    at = (line[:, :1] * _centres(side) + line[:, 1:]) * side - 0.5 + np.float32(shift)
    at = np.clip(at, 0, side - 1)
    return np.asarray(np.maximum(1 - np.abs(at[:, :, None] - np.arange(side, dtype=np.float32)), 0))


def _step(moving: np.ndarray, fixed: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What to add to y and x: least squares of the image, a constant and the slopes along the four unknowns."""
    side = fixed.shape[-1]
    down, across = _sampler(y, side), _sampler(x, side).swapaxes(1, 2)
    cut = moving @ across
    seen = down @ cut
    slope_y = (_sampler(y, side, 0.5) - _sampler(y, side, -0.5)) @ cut * side
    slope_x = down @ (moving @ (_sampler(x, side, 0.5) - _sampler(x, side, -0.5)).swapaxes(1, 2)) * side
    u = _centres(side) - 0.5
    columns = np.stack([seen, np.ones_like(seen), slope_y, slope_y * u[:, None], slope_x, slope_x * u], axis=1)
    columns = columns.reshape(len(seen), 6, -1)
    size = np.sqrt((columns**2).sum(axis=2)) + 1e-3
    columns /= size[:, :, None]
    normal = columns @ columns.swapaxes(1, 2) + 1e-5 * np.eye(6, dtype=np.float32)
    found = np.linalg.solve(normal, columns @ fixed.reshape(len(seen), -1, 1))[..., 0] / size
    gain = np.where(found[:, :1] > 0.05, found[:, :1], np.inf)  # no step where the images have nothing in common
    shift = np.clip(found[:, 2:] / gain, -0.1, 0.1)
    dy = np.stack([shift[:, 1], shift[:, 0] - 0.5 * shift[:, 1]], axis=1)
    dx = np.stack([shift[:, 3], shift[:, 2] - 0.5 * shift[:, 3]], axis=1)
    return dy, dx
