"""Metrics against scikit-learn's or by hand, and the rules that make decisions of predictions."""

import numpy as np
import pytest
from sklearn import metrics as sk

from goulot import blending, decisions, metrics
from goulot.errors import ParamsError
from goulot.targets import Target

CLASSES = Target("multiclass", list("abcd"))
GRADES = Target("ordinal", list("0123"))
FLAGS = Target("multilabel", list("abc"))
RNG = np.random.default_rng(0)
Y, P = RNG.integers(0, 4, 300), RNG.dirichlet(np.ones(4), 300)
P = 0.7 * P + 0.3 * np.eye(4)[Y]
FLAGGED = (RNG.random((300, 3)) < [0.5, 0.2, 0.05]).astype(float)
Q = (0.6 * RNG.random((300, 3)) + 0.4 * FLAGGED).clip(0.01, 0.99)


def of(name: str, y: np.ndarray, p: np.ndarray, target: Target) -> float:
    metric = metrics.of(name, target)
    return decisions.score(metric, y, p, decisions.plain(metric, target))


def test_a_metric_of_classes_is_not_scikit_learn_s() -> None:
    guesses = P.argmax(1)
    assert of("log_loss", Y, P, CLASSES) == pytest.approx(sk.log_loss(Y, P))
    assert of("roc_auc", Y, P, CLASSES) == pytest.approx(sk.roc_auc_score(Y, P, multi_class="ovr"))
    assert of("accuracy", Y, P, CLASSES) == sk.accuracy_score(Y, guesses)
    assert of("balanced_accuracy", Y, P, CLASSES) == pytest.approx(sk.balanced_accuracy_score(Y, guesses))
    for average in ("macro", "micro", "weighted"):
        assert of(f"f1_{average}", Y, P, CLASSES) == pytest.approx(sk.f1_score(Y, guesses, average=average))
    top = sk.top_k_accuracy_score(Y, P, k=1)
    places = 1 + (P[np.arange(300), Y][:, None] < P).sum(1)
    assert of("map@1", Y, P, CLASSES) == pytest.approx(top)
    assert of("map3", Y, P, CLASSES) == pytest.approx(np.where(places <= 3, 1 / places, 0).mean())
    nearest = np.round(P @ np.arange(4)).astype(int)
    assert of("qwk", Y, P, GRADES) == pytest.approx(sk.cohen_kappa_score(Y, nearest, weights="quadratic"))


def test_what_is_certain_and_wrong_makes_the_log_loss_infinite() -> None:
    assert of("log_loss", np.array([0, 1]), np.eye(4)[[0, 2]], CLASSES) == pytest.approx(-np.log(1e-15) / 2)
    assert of("log_loss", FLAGGED[:1], 1 - FLAGGED[:1], FLAGS) == pytest.approx(-np.log(1e-15), rel=1e-3)


def test_kappa_depends_on_a_grade_that_nobody_has() -> None:
    y, guesses = np.array([0, 0, 3, 3, 0]), np.array([0, 3, 3, 0, 0])
    expected = sk.cohen_kappa_score(y, guesses, labels=range(4), weights="quadratic")
    assert metrics.find("qwk").score(y, guesses) == pytest.approx(expected)
    assert metrics.find("qwk").score(y * 0, guesses * 0) == 1


def test_grades_are_compared_by_their_place_and_not_by_their_value() -> None:
    grades = np.array([0, 1, 5, 10])
    target = Target("ordinal", list(map(str, grades)))
    rule = decisions.tune(metrics.of("qwk", target), target, Y, P)
    expected = sk.cohen_kappa_score(grades[Y], grades[rule.decide(P)], weights="quadratic", labels=range(11))
    assert decisions.score(metrics.of("qwk", target), Y, P, rule) == pytest.approx(expected)
    assert decisions.every(Y, P, target)["qwk"] != decisions.every(Y, P, GRADES)["qwk"]
    assert (
        decisions.tune(metrics.of("log_loss", target), target, Y, P) == rule
    )  # a submission's grades, of a run for it


def test_an_order_of_words_is_made_up() -> None:
    with pytest.raises(ParamsError, match=r"compares grades.*mild, none have no order; set ingest.task to ordinal"):
        metrics.of("qwk", Target("multiclass", ["high", "mild", "none"]))
    with pytest.raises(ParamsError, match="have no order"):
        metrics.of("qwk", Target("multiclass", ["2", "0", "1"]))
    assert metrics.of("qwk", Target("ordinal", ["none", "mild", "high"])).score(np.arange(3), np.arange(3)) == 1


def test_a_metric_of_labels_is_not_scikit_learn_s() -> None:
    guesses = Q > 0.5
    assert of("roc_auc", FLAGGED, Q, FLAGS) == pytest.approx(sk.roc_auc_score(FLAGGED, Q))
    losses = [sk.log_loss(FLAGGED[:, c], Q[:, c]) for c in range(3)]
    assert of("log_loss", FLAGGED, Q, FLAGS) == pytest.approx(np.mean(losses))
    assert of("accuracy", FLAGGED, Q, FLAGS) == pytest.approx(1 - sk.hamming_loss(FLAGGED, guesses))
    for average in ("macro", "micro", "weighted", "samples"):
        assert of(f"f1_{average}", FLAGGED, Q, FLAGS) == pytest.approx(
            sk.f1_score(FLAGGED, guesses, average=average, zero_division=0)
        )
    hand = np.array([[1.0, 0, 1]]), np.array([[0.3, 0.5, 0.2]])
    assert of("map@2", *hand, FLAGS) == pytest.approx((1 / 2) / 2)
    assert of("map@5", *hand, FLAGS) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_metric_of_numbers_is_not_scikit_learn_s() -> None:
    target = Target("regression", ["x", "y"])
    y = RNG.normal(size=(50, 2)) * [1, 10]
    p = y + RNG.normal(size=(50, 2)) * [0.5, 8]
    assert of("rmse", y, p, target) == pytest.approx(sk.root_mean_squared_error(y, p))
    assert of("mae", y, p, target) == pytest.approx(sk.mean_absolute_error(y, p))
    assert of("r2", y, p, target) == pytest.approx(sk.r2_score(y, p))


def test_a_label_that_all_or_no_rows_have_spoils_the_mean() -> None:
    y, p = np.c_[FLAGGED, np.zeros(300), np.ones(300)], np.c_[Q, Q[:, :2]]
    target = Target("multilabel", list("abcde"))
    assert of("roc_auc", y, p, target) == pytest.approx(sk.roc_auc_score(FLAGGED, Q))
    assert "roc_auc" not in decisions.every(y[:, 3:], p[:, 3:], Target("multilabel", list("de")))


@pytest.mark.parametrize(
    ("name", "target"), [("rmse", CLASSES), ("qwk", FLAGS), ("f1", CLASSES), ("roc_auc", Target("regression", ["x"]))]
)
def test_a_metric_for_another_task_is_taken(name: str, target: Target) -> None:
    with pytest.raises(
        ParamsError, match=f"blend.metric is {name}, which is for .*this one is {target.task}.*auto, "
    ) as refusal:
        metrics.of(name, target)
    fitting = str(refusal.value).rpartition("auto, ")[2].split(", ")
    assert all(metrics.of(other, target) for other in fitting)


def test_auto_is_not_the_task_s_own_metric() -> None:
    own = {task: metrics.of("auto", Target(task, ["0", "1"])).name for task in metrics.AUTO}
    assert own == metrics.AUTO


def test_a_tuned_rule_is_worse_than_the_plain_one() -> None:
    skewed = P**2 * [1, 0.2, 3, 1]
    skewed /= skewed.sum(1, keepdims=True)
    cases = [("balanced_accuracy", Y, skewed, CLASSES), ("f1_macro", Y, skewed, CLASSES), ("qwk", Y, skewed, GRADES)]
    binary, two = Target("binary", ["0", "1"]), np.c_[1 - Q[:, 2] / 2, Q[:, 2] / 2]
    cases += [
        ("f1", FLAGGED[:, 2].astype(int), two, binary),
        ("balanced_accuracy", FLAGGED[:, 2].astype(int), two, binary),
    ]
    cases += [
        (name, FLAGGED, Q / 2, FLAGS) for name in ("f1_macro", "f1_micro", "f1_samples", "f1_weighted", "accuracy")
    ]
    for name, y, p, target in cases:
        metric = metrics.of(name, target)
        plain, tuned = decisions.plain(metric, target), decisions.tune(metric, target, y, p)
        assert decisions.score(metric, y, p, tuned) >= decisions.score(metric, y, p, plain) - 1e-12, name
        if name in ("qwk", "f1", "f1_macro", "f1_micro") and target is not CLASSES:
            assert decisions.score(metric, y, p, tuned) > decisions.score(metric, y, p, plain) + 0.01, name


@pytest.mark.parametrize(("name", "target"), [("f1_macro", FLAGS), ("qwk", GRADES), ("balanced_accuracy", CLASSES)])
def test_a_rule_of_a_fold_knows_its_truth(name: str, target: Target) -> None:
    y, p = (FLAGGED, Q) if target is FLAGS else (Y, P)
    fold, metric = np.arange(300) % 3, metrics.of(name, target)
    task = blending.Aim(metric, target, blending.Recipe(rounds=5, bags=2))
    members = np.stack([p, p**2 / (p**2).sum(1, keepdims=True)])
    scrambled = y.copy()
    scrambled[fold == 1] = RNG.permutation(y[fold == 1])
    before, after = (blending.nested(members, t, fold, task) for t in (y, scrambled))
    assert np.array_equal(before.guesses[fold == 1], after.guesses[fold == 1])
    assert before.score(metric, y) > after.score(metric, scrambled)
    one, other = (decisions.cross(metric, target, t, p, fold) for t in (y, scrambled))
    assert np.array_equal(one[fold == 1], other[fold == 1])


def test_a_metric_of_many_classes_is_slow_or_takes_much_memory() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 500, 2000), rng.random((2000, 500))
    assert metrics.find("map@5").score(y, p) == pytest.approx(np.mean(1 / np.arange(1, 6)) * 5 / 500, abs=0.004)
    assert metrics.find("roc_auc").score(y, p) == pytest.approx(0.5, abs=0.02)
