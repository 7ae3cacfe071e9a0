"""Calibration of a member's probabilities by one temperature (Guo et al. 2017, for several labels one for all).

A temperature keeps the order of a row's classes and has a single number to fit, so that little data suffice.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax

from goulot.targets import Target

CLIP = 1e-6
COLDEST, HOTTEST = 0.1, 10.0


def temperature(p: np.ndarray, y: np.ndarray, target: Target) -> float:
    """The temperature that gives p, float (n, names), the least log-loss on the truth y; 1 for numbers."""
    if target.task == "regression" or len(np.unique(y)) < 2:
        return 1.0

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
    warmed = np.where(p > 0, warmed, 0.0)
    return np.asarray(warmed / warmed.sum(axis=1, keepdims=True) if target.exclusive else warmed)
