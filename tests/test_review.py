"""A second look at the labels: planted wrong ones are found, right ones are not, nothing goes that nobody dropped."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from goulot import doubts, layout, truth
from goulot.artifacts import read_json, read_table, write_table
from goulot.commands import drop
from goulot.targets import Target
from tests.tiny import Workspace

CLASSES = Target("multiclass", ["a", "b", "c"])


def _planted(
    rng: np.random.Generator, *, rows: int = 300, wrong: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of which some are wrong, probabilities that know the true ones, and the wrong rows."""
    true = rng.integers(0, 3, rows)
    p = rng.dirichlet(np.ones(3), rows) * 0.01 + 0.99 * np.eye(3)[true]
    planted = np.sort(rng.choice(rows, wrong, replace=False))
    given = true.copy()
    given[planted] = (true[planted] + rng.integers(1, 3, wrong)) % 3
    return given, p, planted


@pytest.mark.parametrize("task", ["multiclass", "ordinal"])
def test_a_wrong_label_is_not_doubted_or_a_right_one_is(task: str) -> None:
    y, p, planted = _planted(np.random.default_rng(0))
    found = doubts.find(y, p, Target(task, CLASSES.names), deviation=3.5)
    assert set(found["row"]) == set(planted)
    assert found["self_confidence"].is_monotonic_increasing
    names = np.array(CLASSES.names)
    assert found["given"].tolist() == names[y[found["row"]]].tolist()
    assert found["suggested"].tolist() == names[p[found["row"]].argmax(axis=1)].tolist()


def test_a_wrong_one_of_several_labels_or_of_two_classes_is_not_doubted() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, (400, 2))
    p = np.clip(true * 0.8 + rng.uniform(0, 0.2, true.shape), 0, 1)
    y = true.astype(float)
    y[7, 1], y[9, 0] = 1 - y[7, 1], 1 - y[9, 0]
    found = doubts.find(y, p, Target("multilabel", ["x", "y"]), deviation=3.5)
    assert set(zip(found["row"], found["name"], strict=True)) == {(7, "y"), (9, "x")}
    assert (found["given"] != found["suggested"]).all()
    binary = doubts.find(y[:, 0].astype(int), np.c_[1 - p[:, 0], p[:, 0]], Target("binary", ["n", "p"]), deviation=3.5)
    assert binary["row"].tolist() == [9]


def test_a_wrong_number_is_not_doubted_or_a_noisy_one_is() -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(50, 10, (200, 2))
    y = p + rng.normal(3, 1, p.shape)
    y[4, 1] += 30
    y[5, 0] -= 9
    found = doubts.find(y, p, Target("regression", ["x", "y"]), deviation=6)
    assert list(zip(found["row"], found["name"], strict=True)) == [(4, "y"), (5, "x")]
    assert found["deviation"].tolist() == pytest.approx([30, -9], abs=3)
    assert doubts.find(y, y, Target("regression", ["x", "y"]), deviation=6).empty


def test_a_class_that_is_never_predicted_makes_every_row_doubtful() -> None:
    y, p, _ = _planted(np.random.default_rng(0), wrong=1)
    alone = np.hstack([p, np.zeros((len(p), 2))])  # a class of one image, and one without any
    alone[0, :3], alone[0, 3] = 1 / 3, 0
    y[0] = 3
    found = doubts.find(y, alone, Target("multiclass", list("abcde")), deviation=3.5)
    assert not set(found["suggested"]) & {"d", "e"}
    assert len(found) <= 2


@pytest.fixture
def planted(ready: Workspace) -> Workspace:
    """A workspace in which `blend` is sure of the true classes, and three images have wrong labels."""
    ready.run("split", "rank", "learn logistic")
    ready.set("learn.learners", {"logistic": {"kind": "logistic"}})
    known = truth.read().train
    wrong = ["train/train000", "train/train013", "train/train031"]
    flipped = known.images["image_id"].isin(wrong).to_numpy()
    p = np.where(flipped, 1 - known.y, known.y) * 0.9 + 0.05
    outputs = pd.DataFrame(np.c_[1 - p, p], columns=known.target.outputs)
    folder = layout.learned("logistic")
    write_table(folder / "oof.parquet", pd.concat([known.images[["image_id", "fold"]], outputs], axis=1))
    ready.run("blend", "review")
    return ready


def test_a_planted_label_is_not_listed_shown_and_reported(planted: Workspace) -> None:
    table = pd.read_csv(layout.DOUBTS)
    assert table.columns.tolist() == ["image_id", "file", "name", "given", "suggested", "self_confidence"]
    assert set(table["image_id"]) == {"train/train000", "train/train013", "train/train031"}
    assert table["file"].tolist() == (table["image_id"] + ".png").tolist()
    assert read_json(layout.metrics(layout.REVIEW)) == {"images_doubted": 3, "labels_doubted": 3}
    with Image.open(layout.DOUBTS_SHEET) as sheet:
        assert sheet.width > 3 * 144
    planted.run("submit", "report")
    page = layout.REPORT_PAGE.read_text()
    assert "The out-of-fold predictions doubt labels of 3 training images. Nothing was left out" in page
    assert "train/train013" in page
    assert len(read_table(layout.MANIFEST)) == 80


def test_dropped_images_stay_go_unreported_or_others_go(
    planted: Workspace, caplog: pytest.LogCaptureFixture, refusal: Callable[..., str]
) -> None:
    assert "3 more" in drop.run([], doubted=True)
    assert "4 training images out (1 more)" in drop.run(["train/train001", "train/train013"], doubted=False)
    planted.params = YAML(typ="safe").load(layout.PARAMS.read_text())
    assert planted.params["augment"] == {"policy": "dihedral", "views": 1}
    planted.run("ingest")
    kept = read_table(layout.MANIFEST)
    assert not kept["image_id"].isin(planted.params["ingest"]["drop"]).any()
    assert len(kept) == 76
    numbers = read_json(layout.metrics(layout.INGEST))
    assert (numbers["dropped"], numbers["quarantined"], numbers["unlisted"]) == (4, 0, 0)
    assert "set aside 4: ingest.drop leaves it out" in caplog.text
    assert "unknown training image 'test/test001'" in refusal("drop", "test/test001")
    planted.set("ingest.drop", ["train/train999"])
    assert "ingest.drop: unknown training image 'train/train999'" in refusal("ingest")
    assert "nothing to drop" in refusal("drop")
