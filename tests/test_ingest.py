"""Ingest: what cannot be used is set aside with a reason or stops the run with one line; nothing is made up."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from goulot import labelling, layout, targets
from goulot.artifacts import read_json, read_table
from goulot.errors import DataError
from goulot.targets import Target
from tests import tiny
from tests.tiny import Workspace


def _break(folder: Path) -> dict[str, str]:
    """Four training images made unusable, with a word of the reason to expect."""
    (folder / "train003.png").write_bytes(b"")
    (folder / "train004.png").write_text("<html>not found</html>")
    whole = (folder / "train005.png").read_bytes()
    (folder / "train005.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train006.png").unlink()
    return {"train003": "empty", "train004": "not an image", "train005": "damaged", "train006": "No such file"}


def test_a_broken_image_stops_the_run_or_goes_unnoticed(workspace: Workspace) -> None:
    reasons = _break(workspace.competition / "train")
    workspace.set("ingest.max_quarantined", 0.05)
    workspace.run("fetch", "ingest")
    quarantine, manifest = read_table(layout.QUARANTINE), read_table(layout.MANIFEST)
    assert dict(zip(quarantine["id"], quarantine["reason"], strict=True)).keys() == reasons.keys()
    for name, reason in zip(quarantine["id"], quarantine["reason"], strict=True):
        assert reasons[name] in reason
    assert not set(manifest["id"]) & set(reasons)
    summary = {"train_images": 56, "test_images": 20, "classes": 2, "quarantined": 4, "dropped": 0, "unlisted": 0}
    assert read_json(layout.metrics(layout.INGEST)) == summary


def test_many_broken_images_do_not_stop_the_run(workspace: Workspace, refusal: Callable[..., str]) -> None:
    _break(workspace.competition / "train")
    workspace.run("fetch")
    line = refusal("ingest")
    assert "4 of 80 images cannot be used, more than ingest.max_quarantined = 0.02" in line
    assert "train/train003.png: empty file" in line
    assert not layout.MANIFEST.exists()


def test_the_manifest_does_not_say_what_the_tables_say(workspace: Workspace) -> None:
    workspace.run("fetch", "ingest")
    manifest = read_table(layout.MANIFEST)
    given = pd.read_csv(workspace.competition / "train.csv").set_index("id")["label"]
    train = manifest[manifest["split"] == "train"].set_index("id")["label"]
    assert train.to_dict() == given.to_dict()
    assert manifest.loc[manifest["split"] == "test", "label"].isna().all()
    assert (manifest["image_id"] == manifest["split"] + "/" + manifest["id"]).all()
    assert manifest["image_id"].is_unique
    assert set(zip(manifest["width"], manifest["height"], manifest["mode"], strict=True)) == {(64, 64, "L")}
    assert targets.read() == targets.Target("binary", ["cracked", "good"])


def _edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)


FAULTS = {
    "no column": (lambda t: t.rename(columns={"label": "target"}), ["train.csv has no column 'label'", "'target'"]),
    "blank label": (lambda t: t.assign(label=t["label"].where(t.index != 7, "")), ["train.csv line 9", "'label'"]),
    "doubled id": (lambda t: pd.concat([t, t.head(1)]), ["id 'train000' occurs twice"]),
    "one class": (lambda t: t.assign(label="good"), ["1 class(es)", "at least 2"]),
    "outside": (lambda t: t.assign(id=["../../x", *t["id"][1:]]), ["lies outside"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_table_is_taken_as_it_is(fault: str, workspace: Workspace, refusal: Callable[..., str]) -> None:
    change, words = FAULTS[fault]
    _edit(workspace.competition / "train.csv", change)
    workspace.run("fetch")
    line = refusal("ingest")
    for word in words:
        assert word in line


WRONG_ORDERS = {
    "another class": ({"classes": ["good", "ugly"]}, ["ingest.classes is ['good', 'ugly']", "['cracked', 'good']"]),
    "one missing": ({"classes": ["good"]}, ["each of them once"]),
    "words as grades": ({"task": "ordinal"}, ["cracked, good are text, whose order is not known", "ingest.classes"]),
    "the label itself": ({"extra": ["label"]}, ["ingest.extra names 'label'", "omit it"]),
}


@pytest.mark.parametrize("wrong", WRONG_ORDERS)
def test_a_setting_that_the_labels_do_not_fit_is_taken(
    wrong: str, workspace: Workspace, refusal: Callable[..., str]
) -> None:
    settings, words = WRONG_ORDERS[wrong]
    for name, value in settings.items():
        workspace.set(f"ingest.{name}", value)
    workspace.run("fetch")
    line = refusal("ingest")
    for word in words:
        assert word in line


def test_the_order_of_the_classes_is_not_the_one_that_was_given(workspace: Workspace) -> None:
    workspace.set("ingest.classes", ["good", "cracked"])
    workspace.run("fetch", "ingest")
    assert targets.read().names == ["good", "cracked"]


@pytest.mark.parametrize(("labels", "words"), [(["1", "1.0", "2"], "'1' and '1.0'")])
def test_one_number_in_two_ways_makes_two_classes(labels: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        labelling.target(pd.DataFrame({"y": labels}), ["y"], None, "multiclass", None)
    codes = labelling.target(pd.DataFrame({"y": ["01", "1", "2"]}), ["y"], None, "multiclass", None)
    assert codes.names == ["01", "1", "2"]


def test_columns_of_classes_lose_their_labels_in_another_order() -> None:
    cells = pd.DataFrame({"no": ["1", "0", "1"], "yes": ["0", "1", "0"]})
    target = labelling.target(cells, ["no", "yes"], None, "auto", None, ["yes", "no"])
    assert target.names == ["yes", "no"]
    assert labelling.columns(cells, ["no", "yes"], None, target)["label"].tolist() == ["no", "yes", "no"]
    grades = cells.assign(high="0").set_axis(["10", "9", "8"], axis=1)
    assert labelling.target(grades, list(grades), None, "ordinal", None).names == ["8", "9", "10"]
    assert labelling.columns(grades, list(grades), None, Target("ordinal", ["8", "9", "10"]))["label"][0] == "10"
    words = cells.assign(high="0")
    assert labelling.target(words, list(words), None, "ordinal", None).names == ["no", "yes", "high"]


def test_a_blank_behind_an_id_loses_its_image_or_a_number_is_no_value_of_a_column(workspace: Workspace) -> None:
    for split in ("train", "test"):
        _edit(workspace.competition / f"{split}.csv", lambda t: t.assign(id=t["id"] + " ", fold="1"))
    workspace.set("ingest.train.where", {"fold": 1})
    workspace.run("fetch", "ingest")
    manifest = read_table(layout.MANIFEST)
    assert len(manifest) == 80
    assert not manifest["id"].str.endswith(" ").any()


def test_a_missing_table_is_not_named(workspace: Workspace, refusal: Callable[..., str]) -> None:
    (workspace.competition / "test.csv").unlink()
    workspace.run("fetch")
    assert "data/raw/test.csv is not there; the tables found are sample_submission.csv, train.csv" in refusal("ingest")


def test_an_empty_or_unreadable_table_gives_a_traceback(workspace: Workspace, refusal: Callable[..., str]) -> None:
    (workspace.competition / "train.csv").write_bytes(b"")
    workspace.run("fetch")
    assert "train.csv" in refusal("ingest")
    (layout.RAW / "train.csv").write_bytes(b"id,label\n\xff\xfe,1\n")
    assert "train.csv" in refusal("ingest")


def test_numbers_as_ids_lose_their_zeros_and_numbers_as_classes_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.make(tmp_path / "source", classes=("10", "9"))
    for split in ("train", "test"):
        _edit(source / f"{split}.csv", lambda t: t.assign(id=t["id"].str[-3:]))
        for path in (source / split).iterdir():
            path.rename(path.with_name(path.name.removeprefix(split)))
    workspace = Workspace(tmp_path, source, tiny.params(source))
    workspace.write()
    monkeypatch.chdir(tmp_path)
    workspace.run("fetch", "ingest")
    manifest = read_table(layout.MANIFEST)
    assert "000" in set(manifest["id"])
    assert len(manifest) == 80  # both sets number from 000
    assert targets.read().names == ["9", "10"]


def test_ingest_changes_with_its_threads(workspace: Workspace) -> None:
    workspace.run("fetch", "ingest")
    before = {path.name: path.read_bytes() for path in layout.INGEST.rglob("*") if path.is_file()}
    workspace.set("ingest.threads", 1)
    workspace.run("ingest")
    assert before == {path.name: path.read_bytes() for path in layout.INGEST.rglob("*") if path.is_file()}
