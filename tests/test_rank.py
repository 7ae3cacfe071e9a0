"""What `rank` writes of each column, and who decides what is stacked."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from goulot import layout
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
    ready.set("rank.columns", ["tiny/s1.mux"])
    said = refusal("rank")
    assert "tiny/s1.mux" in said
    assert "tiny/s1.max" in said
