"""Duplicates: copies are found wherever they hide, other images are left alone, and a chain is not swallowed whole."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from goulot import duplicates, layout
from goulot.artifacts import read_json, read_table
from tests.tiny import Workspace


def _plant(workspace: Workspace) -> None:
    """An exact copy from train to test, a smaller JPEG copy within train and one from train to test."""
    train, test = workspace.competition / "train", workspace.competition / "test"
    shutil.copyfile(train / "train001.png", test / "test001.png")
    for origin, copy in (("train002", train / "train022.png"), ("train003", test / "test003.png")):
        with Image.open(train / f"{origin}.png") as image:
            image.resize((48, 48), Image.Resampling.LANCZOS).save(copy, "JPEG", quality=90)


def _groups() -> pd.Series:
    groups = read_table(layout.GROUPS).set_index("image_id")["group"]
    sizes = groups.map(groups.value_counts())
    return groups[sizes > 1]


def test_a_copy_is_missed_or_another_image_taken_for_one(workspace: Workspace) -> None:
    _plant(workspace)
    workspace.run("fetch", "ingest", "audit")
    found = {frozenset(ids) for ids in _groups().groupby(_groups()).groups.values()}
    assert found == {
        frozenset({"train/train001", "test/test001"}),
        frozenset({"train/train002", "train/train022"}),
        frozenset({"train/train003", "test/test003"}),
    }
    summary = read_json(layout.metrics(layout.AUDIT))
    assert summary["pairs_of_equal_bytes"] == 1
    assert summary["pairs_across_train_and_test"] == 2
    assert read_table(layout.PAIRS)["kind"].tolist().count("hash") == 2
    with Image.open(layout.CONTACT_SHEET) as sheet:
        assert sheet.width > 200


def test_a_copy_is_dealt_into_another_fold(workspace: Workspace) -> None:
    _plant(workspace)
    workspace.run("fetch", "ingest", "audit", "split")
    fold = read_table(layout.FOLDS).set_index("image_id")["fold"]
    assert fold["train/train002"] == fold["train/train022"]
    assert len(fold) == 60


@pytest.mark.parametrize("merge", [False, True])
def test_a_large_group_is_merged_unasked_or_goes_unreported(
    merge: bool, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    train = workspace.competition / "train"
    with Image.open(train / "train000.png") as image:
        original = image.copy()
    for number in range(1, 9):  # nine near-copies, two of them equal to the byte
        original.save(train / f"train{number:03d}.png", "JPEG", quality=98 - min(number, 7))
    workspace.set("audit.merge_large", merge)
    workspace.run("fetch", "ingest", "audit")
    assert sorted(_groups().value_counts()) == ([9] if merge else [2])
    assert read_json(layout.metrics(layout.AUDIT))["groups_doubted"] == 1
    assert ("kept together" if merge else "not merged") in caplog.text
    assert "a group of 9 near-identical images" in caplog.text


def test_pairs_across_blocks_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    hashes = np.random.default_rng(0).integers(0, 2**63, (40, 4), dtype=np.uint64)
    hashes[33] = hashes[2]
    hashes[39] = hashes[2] ^ np.uint64(5)
    expected = {(2, 33, 0), (2, 39, 8), (33, 39, 8)}
    assert set(duplicates.near_pairs(hashes, 8)) == expected
    assert set(duplicates.near_pairs(hashes, 7)) == {(2, 33, 0)}
