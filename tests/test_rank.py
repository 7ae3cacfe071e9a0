"""What `rank` writes of each column, and who decides what is stacked."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from goulot import layout, ranking
from goulot.artifacts import read_json
from goulot.targets import Task
from tests import tiny
from tests.tiny import Workspace


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel", "regression"])
def test_a_measure_lacks_a_kind_of_target_or_a_column(ready: Workspace, task: Task) -> None:
    if task != "binary":
        tiny.retarget(task)
        ready.run("split")
    ready.run("rank")
    table = pd.read_csv(layout.RANKING)
    numbers = table[["score", "knn", "logme", "redundancy"]].to_numpy()
    assert np.isfinite(numbers).all()
    right = table["knn"] * 60  # training images, of which an accuracy counts those that are right
    assert (task not in ("binary", "multiclass")) or np.allclose(right, right.round())
    assert table["redundancy"].between(0, 1.0001).all()
    assert (table["redundancy"] == 0).sum() == 1  # the best one, which has nobody above it
    assert set(read_json(layout.metrics(layout.RANK))["agreement"]) == {"knn", "logme", "size"}


def test_columns_named_by_hand_are_passed_over_or_unknown_ones_taken(
    ready: Workspace, refusal: Callable[..., str]
) -> None:
    ready.set("rank.columns", ["tiny/s1.max", "tiny/head", "tiny/s1.max"])
    ready.run("rank")
    choice = read_json(layout.CHOICE)
    assert set(choice) == {"0", "1", "2", "all"}
    assert all(columns == [["tiny", "s1.max"], ["tiny", "head"]] for columns in choice.values())
    ready.set("rank.columns", [])
    ready.run("rank")
    assert all(read_json(layout.CHOICE).values())
    ready.set("rank.columns", ["tiny/s1.mux"])
    said = refusal("rank")
    assert "tiny/s1.mux" in said
    assert "tiny/s1.max" in said


def test_the_stack_goes_beyond_a_budget_or_does_not_take_the_best_within_it(
    ready: Workspace, refusal: Callable[..., str]
) -> None:
    columns = ("backbone", "column", "score", "channels", "bytes", "multiply_adds")
    rows = [("a", "s1", 0.7, 10, 20, 5), ("a", "head", 0.9, 40, 80, 50), ("b", "s1", 0.8, 20, 40, 30),
            ("b", "head", 0.6, 40, 80, 90)]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)

    def taken(**limits: int) -> list[str]:
        return [
            "/".join(pair) for pair in ranking.choose(table, "score", ranking.Budget(**{"channels": 110, **limits}))
        ]

    assert taken() == ["a/head", "b/s1", "a/s1", "b/head"]
    assert taken(channels=55) == ["a/head", "a/s1"]
    assert taken(bytes=120) == ["a/head", "b/s1"]
    assert taken(multiply_adds=80) == ["a/head", "b/s1", "a/s1"]  # a/s1 costs nothing beside a/head
    assert taken(multiply_adds=140) == taken()
    for limit in ("max_channels", "max_bytes", "max_multiply_adds"):
        ready.set("rank", {limit: 1})
        assert "no column fits into rank.max_channels, rank.max_bytes and rank.max_multiply_adds" in refusal("rank")
