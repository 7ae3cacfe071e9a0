"""Duplicates: copies are found wherever they hide, other images are left alone, and a chain is not swallowed whole."""

import shutil

import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from goulot import layout
from goulot.artifacts import read_json, read_table
from goulot.duplicates import candidates, grouping, hidden_groups, threshold, thumbnails
from tests.tiny import Workspace, draw


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
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit")
    found = {frozenset(ids) for ids in _groups().groupby(_groups()).groups.values()}
    assert found == {
        frozenset({"train/train001", "test/test001"}),
        frozenset({"train/train002", "train/train022"}),
        frozenset({"train/train003", "test/test003"}),
    }
    summary = read_json(layout.metrics(layout.AUDIT))
    assert summary["pairs_of_equal_bytes"] == 1
    assert summary["pairs_across_train_and_test"] == 2
    pairs = read_table(layout.PAIRS)
    assert pairs["kind"].tolist().count("hash") == 2
    assert pairs["distance"].max() < 0.2
    twins = pd.read_csv(layout.TWINS).set_index("test")
    assert twins["train"].to_dict() == {"test/test001": "train/train001", "test/test003": "train/train003"}
    assert twins.loc["test/test001", "label"] == "cracked"
    assert summary["test_images_with_a_twin_in_train"] == 2
    assert not (layout.AUDIT / "thumbnails.npy").exists()
    with Image.open(layout.CONTACT_SHEET) as sheet:
        assert sheet.width > 200


def test_the_report_passes_over_what_the_audit_found(workspace: Workspace) -> None:
    _plant(workspace)
    train = workspace.competition / "train"
    shutil.copyfile(train / "train004.png", train / "train023.png")  # good and cracked
    workspace.set("learn.learners", {"logistic": {"kind": "logistic"}})
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit", "split", "rank", "learn logistic", "blend")
    workspace.run("review", "submit", "report")
    page = layout.REPORT_PAGE.read_text()
    for said in (
        "4 pairs of images count as one image each",
        "Duplicates of different labels: 1 of 1",
        "Test images in training: 2 of 2",
        "1 pairs of near-identical training images bear different labels",
        "Likeness of planted copies",
        "Pairs of images that count as one, from the nearest to the furthest",
    ):
        assert said in page


def test_a_copy_is_dealt_into_another_fold(workspace: Workspace) -> None:
    _plant(workspace)
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit", "split")
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
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit")
    assert sorted(_groups().value_counts()) == ([9] if merge else [2])
    assert read_json(layout.metrics(layout.AUDIT))["groups_doubted"] == 1
    assert ("kept together" if merge else "not merged") in caplog.text
    assert "a group of 9 near-identical images" in caplog.text


def test_of_many_copies_a_twin_or_another_label_goes_unsaid(workspace: Workspace) -> None:
    train, test = workspace.competition / "train", workspace.competition / "test"
    labels = pd.read_csv(workspace.competition / "train.csv").set_index("id")["label"]
    exact, near, copied = range(7), range(10, 17), (train / "train000.png").read_bytes()
    for number in exact:
        for folder in (train, test):
            (folder / f"{folder.name}{number:03d}.png").write_bytes(copied)
    with Image.open(train / "train010.png") as image:
        original = image.copy()
    for number in near:
        original.save(test / f"test{number:03d}.png", "JPEG", quality=100 - number)
    workspace.set("audit.large_group", 0.5)
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit")
    assert set(pd.read_csv(layout.TWINS)["test"]) == {f"test/test{n:03d}" for n in (*exact, *near)}
    other = {f"train/train{n:03d}" for n in exact if labels[f"train{n:03d}"] != labels["train000"]}
    found = pd.read_csv(layout.CONFLICTS)
    assert other <= {*found["a"], *found["b"]}


def test_a_pair_by_way_of_others_is_not_found() -> None:
    pairs = pd.DataFrame({"i": [0, 1, 4], "j": [1, 2, 5]})
    group = grouping.groups(6, pairs)
    train = np.array([False, False, True, False, False, False])
    assert grouping.chained(group, train, pairs)[["i", "j"]].to_numpy().tolist() == [[0, 2]]


TURNS = {
    "mirrored": Image.Transpose.FLIP_LEFT_RIGHT,
    "upside down": Image.Transpose.FLIP_TOP_BOTTOM,
    "turned left": Image.Transpose.ROTATE_90,
    "turned right": Image.Transpose.ROTATE_270,
}


def test_a_turned_mirrored_cropped_or_darker_copy_is_missed_or_its_other_label_unsaid(workspace: Workspace) -> None:
    train = workspace.competition / "train"
    expected = set()
    for number, turn in enumerate(TURNS.values()):
        with Image.open(train / f"train{number:03d}.png") as image:
            image.transpose(turn).save(train / f"train{number + 31:03d}.png")
        expected.add(frozenset({f"train/train{number:03d}", f"train/train{number + 31:03d}"}))
    with Image.open(train / "train010.png") as image:
        image.crop((0, 6, 58, 64)).save(train / "train041.png")
    with Image.open(train / "train011.png") as image:
        image.point(lambda value: round(value * 0.7)).save(train / "train042.png")
    expected |= {frozenset({f"train/train{n:03d}", f"train/train{n + 31:03d}"}) for n in (10, 11)}
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit")
    assert {frozenset(ids) for ids in _groups().groupby(_groups()).groups.values()} == expected
    conflicts = pd.read_csv(layout.CONFLICTS)
    assert {frozenset(pair) for pair in conflicts[["a", "b"]].to_numpy()} == expected
    assert set(conflicts["label_a"] + conflicts["label_b"]) == {"goodcracked", "crackedgood"}


def test_the_hash_is_not_that_of_imagehash() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    half = Image.fromarray(thumbnails.halved(pixels[None])[0].round().astype(np.uint8))
    bits = imagehash.phash(half, hash_size=16).hash
    assert (np.unpackbits(candidates.perceptual_hashes(pixels[None])[0]) != bits.ravel()).sum() <= 2


def test_a_pose_or_a_crop_hides_an_image_from_the_spectra_be_they_few_or_very_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    images = [np.asarray(draw(rng, "good", 128)) for _ in range(300)]
    posed = [thumbnails.posed(images[number], number % 8) for number in range(40)]
    crops = [Image.fromarray(images[number]).crop((2, 9, 117, 124)) for number in range(40, 60)]
    small = np.stack([*images, *posed, *map(thumbnails.thumbnail, crops)])
    for many in (10_000, 300):
        monkeypatch.setattr(candidates, "MANY", many)
        found = set(map(tuple, candidates.near_spectra(small, 2, 1).tolist()))
        assert {(number, 300 + number) for number in range(60)} <= found


def test_components_of_features_hide_the_nearest_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(900, 200)).astype(np.float32)
    features = np.concatenate([features, features[:50] + rng.normal(size=(50, 200)) * 0.3]).astype(np.float32)
    for few in (2048, 100):
        monkeypatch.setattr(candidates, "FEW", few)
        near = candidates.near_features(lambda rows: features[rows], len(features), 4, 1)
        assert np.mean([900 + row in near[row] for row in range(50)]) > 0.9


def test_images_of_one_room_are_dealt_into_many_folds_without_a_word(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.read_csv(workspace.competition / "train.csv")
    table["room"] = [f"room {number // 5}" for number in range(len(table))]
    table.to_csv(workspace.competition / "train.csv", index=False)
    colours = np.random.default_rng(1).uniform(0.2, 1, (12, 3))
    for number, name in enumerate(table["id"]):
        path = workspace.competition / f"train/{name}.png"
        pixels = np.asarray(Image.open(path).convert("RGB")) * colours[number // 5]
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit")
    found = read_json(layout.metrics(layout.AUDIT))["hidden_groups"]
    assert set(found) == {"column 'room'", "run of 3 in file order"}
    assert found["column 'room'"]["share"] > 0.5 > found["column 'room'"]["by_chance"]
    assert "features tell the column 'room'" in caplog.text
    workspace.set("ingest.train.group", "room")
    workspace.run("ingest", "augment", "audit")
    assert read_json(layout.metrics(layout.AUDIT))["hidden_groups"] == {}


def test_labels_or_names_by_chance_are_taken_for_groups() -> None:
    rng = np.random.default_rng(0)
    label, rows = np.repeat(np.arange(6), 50), 300
    near = rng.integers(0, 50, (rows, 4)) + 50 * label[:, None]  # the nearest are of one label, and else any
    train = pd.DataFrame({"file": [f"train/class {a}/{n}.png" for n, a in enumerate(label)]})
    columns = pd.DataFrame({"site": rng.integers(0, 20, rows), "label again": label}).astype(str)
    named = hidden_groups.groupings(train, columns)
    assert list(named) == ["column 'site'", "column 'label again'", "folder", "run of 15 in file order"]
    told = hidden_groups.told(near, np.arange(rows), label, named, 0)
    assert told == {}
    near[:, 0] = np.arange(rows) ^ 1
    assert set(hidden_groups.told(near, np.arange(rows), label, named, 0)) == {"run of 15 in file order"}
    assert hidden_groups.told(near, np.arange(rows) // 2, label, named, 0) == {}


def test_copies_of_another_kind_than_those_made_are_taken_for_the_tail_of_what_is_none() -> None:
    rng = np.random.default_rng(0)
    copies = 1 - 10 ** -rng.uniform(3.2, 4.3, 240)
    others, harder = rng.normal(0.75, 0.03, 400_000), 1 - 10 ** -rng.uniform(2.8, 3.1, 250)
    least = threshold.choose(copies, np.concatenate([others, harder, copies]), 50_000)
    assert others.max() < least < harder.min()
