"""Calibration of a member's probabilities: by one temperature (Guo et al. 2017), or by an isotonic curve a name.

A temperature keeps the order of a row's classes and has a single number to fit, so that little data suffice. Isotonic
regression (Zadrozny and Elkan 2002) can take any rising shape, and wants a thousand rows or more.
"""

from typing import Literal, Protocol

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression

from goulot.targets import Target

Kind = Literal["temperature", "isotonic", "none"]

CLIP = 1e-6
COLDEST, HOTTEST = 0.1, 10.0


class Calibrator(Protocol):
    """What was fitted to a member's predictions."""

    def __call__(self, p: np.ndarray) -> np.ndarray:
        """Predictions made true, float (n, names)."""
        ...


def fit(kind: Kind, p: np.ndarray, y: np.ndarray, target: Target) -> Calibrator:
    """Fit to predictions, float (n, names), of the truth y; numbers stay as they are."""
    if kind == "none" or target.task == "regression" or len(np.unique(y)) < 2:
        return lambda p: p
    if kind == "isotonic":
        return _isotonic(p, y, target)
    warmth = temperature(p, y, target)
    return lambda p: warm(p, warmth, target)


def _isotonic(p: np.ndarray, y: np.ndarray, target: Target) -> Calibrator:
    true = np.eye(len(target.names))[y] if target.exclusive else y
    curves = [
        IsotonicRegression(y_min=CLIP, y_max=1 - CLIP, out_of_bounds="clip").fit(predicted, actual)
        for predicted, actual in zip(p.T, true.T, strict=True)
    ]

    def calibrated(p: np.ndarray) -> np.ndarray:
        found = np.stack([curve.predict(column) for curve, column in zip(curves, p.T, strict=True)], axis=1)
        return _normal(np.where(p > 0, found, 0.0), target)

    return calibrated


def temperature(p: np.ndarray, y: np.ndarray, target: Target) -> float:
    """The temperature that gives p, float (n, names), the least log-loss on the truth y."""

    def loss(log_temperature: float) -> float:
        warmed = np.clip(warm(p, np.exp(log_temperature), target), CLIP, 1 - CLIP)
        if target.exclusive:
            return float(-np.log(warmed[np.arange(len(y)), y.astype(int)]).mean())
        return float(-(y * np.log(warmed) + (1 - y) * np.log(1 - warmed)).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def warm(p: np.ndarray, temperature: float, target: Target) -> np.ndarray:
    """Probabilities with their logits divided by the temperature, float (n, names); above 1 they become less sure.

    A probability of exactly 0, as of a class that was not learned, stays 0.
    """
    if temperature == 1.0:
        return p
    safe = np.clip(p, CLIP, 1 - CLIP)
    warmed = softmax(np.log(safe) / temperature, axis=1) if target.exclusive else expit(logit(safe) / temperature)
    return _normal(np.where(p > 0, warmed, 0.0), target)


def clipped(p: np.ndarray, target: Target) -> np.ndarray:
    """Probabilities of which none is 0 or 1: one that is certain and wrong would cost the log-loss without bound."""
    least = CLIP / len(target.names)
    if target.task == "regression" or not ((p < least) | (p > 1 - least)).any():
        return p
    return _normal(p.clip(least, 1 - least), target)


def _normal(p: np.ndarray, target: Target) -> np.ndarray:
    return np.asarray(p / p.sum(axis=1, keepdims=True) if target.exclusive else p)
