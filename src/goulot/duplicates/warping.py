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


def refine(whole: np.ndarray, part: np.ndarray, y: np.ndarray, x: np.ndarray, *, steps: int, every: int) -> None:
    """Improve the lines y and x, float32 (n, 2), in place; `part` lies within `whole`, float32 (n, side, side).

    Of the blurred images every so many-th pixel of an axis is looked at.
    """
    moving, side = blurred(whole, 1.0), part.shape[-1]
    solver = _solver(blurred(part, 1.0), every)
    for _ in range(steps):
        seen = _sampler(y, side, every) @ moving @ _sampler(x, side, every).swapaxes(1, 2)
        found = (solver @ seen.reshape(len(seen), -1, 1))[..., 0]
        gain = np.where(found[:, :1] > 0.05, found[:, :1], np.inf)  # no step where the images have nothing in common
        shift = np.clip(found[:, 2:] / gain, -0.1, 0.1)
        y[:], x[:] = _moved(y, shift[:, :2]), _moved(x, shift[:, 2:])


def likeness(whole: np.ndarray, part: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Correlation of `part` with what it shows of `whole`, (n,), where neither is burnt out."""
    side = part.shape[-1]
    seen = _sampler(y, side) @ whole @ _sampler(x, side).swapaxes(1, 2)
    good = (seen < SATURATED) & (part < SATURATED)
    if not good.all():
        good = blurred(good.astype(np.float32), 1.5) > 0.98
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


def _moved(line: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The line after what it shows was found to lie shift[0] + shift[1] * (u - 0.5) further on in the part."""
    scale = line[:, 0] / (1 + shift[:, 1])
    start = line[:, 1] + scale * (0.5 * shift[:, 1] - shift[:, 0])
    scale = np.clip(scale, 0.75, 1.05)
    return np.stack([scale, np.clip(start, -0.03, 1.03 - scale)], axis=1)


def _sampler(line: np.ndarray, side: int, every: int = 1) -> np.ndarray:
    """Linear interpolation along a line as matrices (n, side / every, side)."""
    at = np.clip((line[:, :1] * _centres(side)[::every] + line[:, 1:]) * side - 0.5, 0, side - 1.001)
    left = at.astype(np.intp)
    made = np.zeros((*at.shape, side), np.float32)
    np.put_along_axis(made, left[..., None], (1 + left - at)[..., None], axis=2)
    np.put_along_axis(made, left[..., None] + 1, (at - left)[..., None], axis=2)
    return made


def _solver(part: np.ndarray, every: int) -> np.ndarray:
    """What gives the least squares of an image by `part`, a constant and its slopes along the unknowns, (n, 6, pixels).

    It stays what it is from step to step, since the image that moves is the other one (Baker and Matthews 2004).
    """
    side = part.shape[-1]
    u = _centres(side)[::every] - 0.5
    columns = np.ones((len(part), 6, len(u), len(u)), np.float32)
    columns[:, 0] = part[:, ::every, ::every]
    columns[:, 2], columns[:, 4] = (_slope(part, axis)[:, ::every, ::every] for axis in (1, 2))
    columns[:, 3], columns[:, 5] = columns[:, 2] * u[:, None], columns[:, 4] * u
    flat = columns.reshape(len(part), 6, -1)
    size = np.sqrt(np.einsum("nkp,nkp->nk", flat, flat)) + 1e-3
    flat /= size[:, :, None]
    normal = flat @ flat.swapaxes(1, 2) + 1e-5 * np.eye(6, dtype=np.float32)
    return np.asarray(np.linalg.inv(normal) / size[:, :, None] @ flat)


def _slope(image: np.ndarray, axis: int) -> np.ndarray:
    """The change over the whole side, by differences of neighbours."""
    return np.asarray(np.gradient(image, axis=axis) * image.shape[axis], dtype=np.float32)
