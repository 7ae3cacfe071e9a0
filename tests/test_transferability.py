"""The scores that stand beside the probe are those of their papers."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from goulot import transferability


@pytest.mark.parametrize(("rows", "width"), [(40, 6), (12, 30)])
def test_logme_is_not_the_largest_evidence(rows: int, width: int) -> None:
    """The evidence itself is the density of the target under N(0, XX'/alpha + I/beta), here maximised by search."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, width)) * rng.uniform(0.2, 2, width)
    y = X[:, :2] @ [[1.0], [-0.5]] + rng.normal(0, 0.7, (rows, 1))

    def lost(precisions: np.ndarray) -> float:
        alpha, beta = np.exp(precisions)
        covariance = X @ X.T / alpha + np.eye(rows) / beta
        return -float(multivariate_normal(np.zeros(rows), covariance).logpdf(y[:, 0]))

    best = min(minimize(lost, start, method="Nelder-Mead").fun for start in ([0, 0], [1, 1], [-1, 2]))
    assert transferability.logme(X, y) == pytest.approx(-best / rows, abs=1e-4)


def test_the_order_of_features_that_say_more_and_more_is_lost() -> None:
    rng = np.random.default_rng(0)
    y = np.eye(3)[np.arange(150) % 3]
    fold = np.arange(150) % 5
    columns = [np.hstack([y * share, np.zeros((150, 5))]) + rng.normal(0, 0.5, (150, 8)) for share in (0.0, 0.5, 1.5)]
    scores = [transferability.logme(X, y) for X in columns]
    assert scores == sorted(scores)
    hits = [(transferability.neighbours(X, y, fold).argmax(1) == y.argmax(1)).mean() for X in columns]
    assert hits == sorted(hits)
    assert hits[0] < 0.5
    assert hits[2] > 0.9


def test_a_row_is_its_own_neighbour_or_finds_its_fold() -> None:
    rng = np.random.default_rng(0)
    fold = np.arange(60) // 20
    X = np.repeat(rng.normal(size=(3, 4)), 20, axis=0) + rng.normal(0, 0.01, (60, 4))  # a fold looks like itself
    assert (transferability.neighbours(X, np.eye(3)[fold], fold).argmax(1) != fold).all()


def test_alignment_sees_a_turn_or_a_scale_or_takes_noise_for_the_same() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    same, other = transferability.gram(3 * X @ turn + 1), transferability.gram(rng.normal(size=(80, 6)))
    assert transferability.alignment(transferability.gram(X), same) == pytest.approx(1, abs=1e-5)
    assert transferability.alignment(transferability.gram(X), other) < 0.3


def test_constant_features_give_no_number() -> None:
    X, y = np.ones((20, 3)), np.eye(2)[np.arange(20) % 2]
    assert np.isfinite(transferability.logme(X, y))
    assert np.isfinite(transferability.neighbours(X, y, np.arange(20) % 4)).all()
    assert transferability.alignment(transferability.gram(X), transferability.gram(X)) == 0
