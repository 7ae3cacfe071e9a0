"""A temperature makes probabilities true without moving their order or what was known to be impossible."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from goulot import blending, calibration, metrics
from goulot.targets import Target


def drawn(classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (4000, classes))
    chance = softmax(logits, axis=1)
    return logits, (rng.random((4000, 1)) > chance.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_too_sure_or_too_unsure_stays_so(classes: int, factor: float) -> None:
    logits, y = drawn(classes)
    target = Target("multiclass", list(map(str, range(classes))))
    p = softmax(logits * factor, axis=1)
    found = calibration.temperature(p, y, target)
    assert found == pytest.approx(factor, rel=0.15)
    warmed = calibration.warm(p, found, target)
    assert np.allclose(warmed.sum(axis=1), 1)
    assert (warmed.argmax(axis=1) == p.argmax(axis=1)).all()
    assert log_loss(y, warmed) < log_loss(y, p)


def test_labels_are_warmed_as_classes_or_numbers_at_all() -> None:
    logits, _ = drawn(3)
    y = (np.random.default_rng(1).random(logits.shape) < expit(logits)).astype(float)
    labels = Target("multilabel", ["a", "b", "c"])
    assert calibration.temperature(expit(2 * logits), y, labels) == pytest.approx(2, rel=0.15)
    numbers = calibration.fit("temperature", logits, y, Target("regression", ["a", "b", "c"]))
    assert numbers(logits) is logits


def test_a_class_that_cannot_be_becomes_possible() -> None:
    p = np.array([[0.0, 0.3, 0.7], [0.0, 0.9, 0.1]])
    warmed = calibration.warm(p, 3.0, Target("multiclass", ["a", "b", "c"]))
    assert (warmed[:, 0] == 0).all()
    assert np.allclose(warmed.sum(axis=1), 1)


def test_a_curve_makes_probabilities_worse_or_possible_what_cannot_be() -> None:
    logits, y = drawn(3)
    target = Target("multiclass", ["a", "b", "c"])
    p = softmax(logits * 3, axis=1)
    p[:5, 0] = 0
    curved = calibration.fit("isotonic", p, y, target)(p)
    assert np.allclose(curved.sum(axis=1), 1)
    assert (curved[:5, 0] == 0).all()
    assert log_loss(y[5:], curved[5:]) < log_loss(y[5:], p[5:])


@pytest.mark.parametrize("method", ["greedy", "logistic"])
def test_a_blend_for_the_log_loss_is_certain_or_one_for_another_metric_is_not(method: blending.Method) -> None:
    target, y = Target("multiclass", ["a", "b", "c"]), np.arange(300) % 3
    p = np.eye(3)[y]
    p[:3] = np.eye(3)[[1, 2, 0]]  # certain, and wrong
    for name in ("log_loss", "roc_auc"):
        aim = blending.Aim(metrics.find(name), target, blending.Recipe(methods=[method], calibrate="none", bags=0))
        found = blending.fit(p[None], y, y * 0, aim).of(p[None])
        assert np.allclose(found.sum(axis=1), 1)
        assert found.min() > 0 or name == "roc_auc"
        assert found.min() == 0 or name == "log_loss" or method == "logistic"


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_the_calibration_of_a_fold_knows_its_labels(kind: calibration.Kind) -> None:
    logits, y = drawn(2)
    fold = np.arange(len(y)) % 4
    members = np.stack([softmax(3 * logits, axis=1), softmax(logits + 0.5, axis=1)])
    other = np.where(fold == 1, 1 - y, y)
    recipe = blending.Recipe(rounds=5, calibrate=kind, methods=["greedy"])
    task = blending.Aim(metrics.find("log_loss"), Target("binary", ["0", "1"]), recipe)
    one, changed = (blending.nested(members, truth, fold, task).oof[fold == 1] for truth in (y, other))
    assert np.array_equal(one, changed)
