"""A thousand classes: every step takes bounded time, or says in one line what to change."""

import time

import numpy as np
import pytest

from goulot import blending, doubts, folds, metrics, ranking
from goulot.errors import ParamsError
from goulot.learners import Context, find
from goulot.learners import svm as machines
from goulot.targets import Target

MANY = Target("multiclass", [f"c{number:04d}" for number in range(1000)])


def _context(classes: int) -> Context:
    return Context(seed=0, threads=1, target=Target("multiclass", [str(number) for number in range(classes)]))


@pytest.mark.parametrize(("kind", "words"), [
    ("svm", "1,000 classes make 499,500; it takes 300 classes at most: take it out of learn.learners"),
    ("lightgbm", "trees for each of 1,000 names make 300,000, more than 60,000; set its trees to 60, or take it out"),
])  # fmt: skip
def test_a_learner_runs_for_hours_on_very_many_classes(kind: str, words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        find("x", {"kind": kind}).make(Context(seed=0, threads=1, target=MANY))
    find("x", {"kind": kind}).make(_context(200))


def test_the_machines_of_all_pairs_are_asked_for_all_rows_at_once_or_parts_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 12)
    X = (np.eye(4)[y] * 2 + rng.normal(size=(48, 4))).astype(np.float32)
    model = find("x", {"kind": "svm", "components": 4}).make(_context(4)).fit(X, y, np.arange(48))
    whole = model.predict(X)
    monkeypatch.setattr(machines, "VALUES", 6 * 5)
    assert np.array_equal(model.predict(X), whole)


@pytest.mark.slow
def test_folds_blend_probe_or_review_take_minutes() -> None:
    rng = np.random.default_rng(0)
    y, rows = np.repeat(np.arange(1000), 3), 3000
    start = time.monotonic()
    fold = folds.deal(y, np.arange(rows), task="multiclass", folds=3, seed=0)
    X = rng.normal(size=(1000, 48))[y] + rng.normal(size=(rows, 48))
    assert ranking.probe(X.astype(np.float32), y, fold, MANY, alpha=300.0)["all"] > 0.9
    p = rng.dirichlet(np.ones(1000), rows) * 0.5 + np.eye(1000)[y] * 0.5
    metric = metrics.find("log_loss")
    result = blending.nested(np.stack([p, p]), y, fold, blending.Aim(metric, MANY, blending.Recipe(rounds=3)))
    doubts.find(y, result.oof, MANY, deviation=3.5)
    assert time.monotonic() - start < 60
