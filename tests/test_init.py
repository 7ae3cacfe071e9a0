"""`goulot init`: layouts of many kinds are worked out from the files alone; what nothing decides is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from goulot import cli, layout, targets
from goulot.artifacts import read_json, read_table
from goulot.commands import init
from goulot.discovery import Given
from tests.competitions import make_competition
from tests.conftest import ROOT
from tests.layouts import (
    CASES,
    LABELS,
    a_patient_and_more_columns,
    categories_by_number,
    class_folders_a_table_and_a_blank_sample,
    class_folders_without_any_table,
    kind_and_individual,
    labelled,
    tags_that_the_sample_parts,
    write_csv,
    write_images,
    write_test_set,
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's own params.yaml."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where a test puts its data set."""
    folder = tmp_path / "birds"
    folder.mkdir()
    return folder


def _read(path: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(path.read_text()))


def _ingested() -> pd.DataFrame:
    cli.run_stage("fetch")
    cli.run_stage("ingest")
    return read_table(layout.MANIFEST)


@pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)
def test_a_layout_needs_params_written_by_hand(build: Callable[[Path], None], data: Path, checkout: Path) -> None:
    task, names, train, test = CASES[build]
    build(data)
    init.run(f"path:{data}")
    manifest = _ingested()
    target = targets.read()
    assert (target.task, target.names) == (task, names)
    assert manifest["split"].value_counts().to_dict() == {"train": train, "test": test}
    assert read_json(layout.metrics(layout.INGEST))["quarantined"] == 0
    truth = target.truth(manifest[manifest["split"] == "train"])
    assert np.isfinite(truth).all()
    assert (truth >= 0).all()
    assert manifest.loc[manifest["split"] == "test", "label"].isna().all()
    if target.exclusive and task == "multiclass" and len(set(names) & set(LABELS)) == 3:
        # All of them deal the labels in turns, and the images carry their number.
        assert manifest["label"].value_counts().nunique() == 1


LARGE = "ranzcr-clip-catheter-line-classification"  # eleven labels, and images a second time in other files
KNOWN = [pytest.param(name, marks=pytest.mark.slow if name == LARGE else ()) for name in make_competition.SPECS]


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_competition_needs_params_written_by_hand(name: str, data: Path, checkout: Path) -> None:
    job = make_competition.make(name, data, data.parent / "answers")
    init.run(f"path:{data}")
    manifest = _ingested()
    target = targets.read()
    spec = make_competition.SPECS[name]
    sample = pd.read_csv(data / "sample_submission.csv", dtype=str)
    assert set(manifest.loc[manifest["split"] == "test", "id"]) == set(sample.iloc[:, 0])
    train = manifest[manifest["split"] == "train"].set_index("file")
    truth = pd.DataFrame(target.truth(train).reshape(len(train), -1), index=train.index)
    assert len(train) == len(job.train)
    for item in job.train:
        found = truth.loc[item["file"]]
        if target.exclusive:
            assert target.names[int(found[0])] == item["label"]
        elif target.task == "regression":
            assert found[0] == float(item["label"])
        else:
            assert {n for n, flag in zip(target.names, found, strict=True) if flag} == set(filter(None, item["labels"]))
    expected = {"rmse": "regression", "kappa": "ordinal"}.get(spec.metric)
    assert expected in (None, target.task)
    if name.startswith("ranzcr"):
        for stage in ("augment", "extract lite0", "audit"):
            cli.run_stage(*stage.split())
        groups = manifest.merge(read_table(layout.GROUPS), on="image_id", suffixes=("_given", ""))
        assert (groups.groupby("group_given")["group"].nunique() == 1).all()


def test_comments_and_other_settings_are_lost(data: Path, checkout: Path) -> None:
    class_folders_without_any_table(data)
    before = (checkout / "params.yaml").read_text()
    init.run(f"path:{data}", metric="f1_macro")
    after = (checkout / "params.yaml").read_text()
    comments = [line.partition("#")[2] for line in before.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in after.splitlines() if "#" in line] == comments
    old, new = _read_text(before), _read_text(after)
    changed = {key for key in old if old[key] != new[key]}
    assert changed == {"fetch", "ingest", "blend", "report"}
    assert new["blend"] == {**old["blend"], "metric": "f1_macro"}
    assert new["report"]["title"] == "birds"


def _read_text(text: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(text))


def test_what_was_found_is_not_explained(data: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_patient_and_more_columns(data)
    cli.app(["init", "--from", f"path:{data}"], standalone_mode=False)
    said = capsys.readouterr().out
    for words in (
        "60 training images: jpeg/train/{id}.jpg, by train.csv (ids: image_name)",
        "4 test images: jpeg/test/{id}.jpg, by test.csv",
        "column 'target', since the sample submission asks for it",
        "task: binary: 0 (40), 1 (20)",
        "folds keep images of one 'patient_id' together",
        "sex, age_approx; name them in ingest.extra",
    ):
        assert words in said


def test_extra_columns_are_not_numbers_or_text_by_image(data: Path, checkout: Path) -> None:
    a_patient_and_more_columns(data)
    init.run(f"path:{data}")
    yaml = YAML()
    yaml.preserve_quotes = True
    document = yaml.load(checkout / "params.yaml")
    document["ingest"]["extra"] = ["sex", "age_approx"]
    yaml.dump(document, checkout / "params.yaml")
    manifest = _ingested()
    extra = read_table(layout.EXTRA)
    assert extra["image_id"].tolist() == manifest["image_id"].tolist()
    assert extra["age_approx"].dtype == np.float64
    row = extra.set_index("image_id").loc["train/im08"]
    assert (row["sex"], row["age_approx"]) == ("", 10.0)


@pytest.mark.parametrize(("metric", "task"), [
    ("accuracy", "multiclass"), ("f1_macro", "multiclass"), ("map@5", "multiclass"), ("qwk", "ordinal"),
    ("mae", "regression"),
])  # fmt: skip
def test_the_metric_does_not_say_what_whole_numbers_are(metric: str, task: str, data: Path, checkout: Path) -> None:
    rows = labelled(20, [0, 1, 2, 3])
    write_images(data, [f"train_images/{name}.jpg" for name, _ in rows])
    write_csv(
        data / "train.csv", {"image_id": [f"{name}.jpg" for name, _ in rows], "label": [label for _, label in rows]}
    )
    write_test_set(data, {"label": 0})
    init.run(f"path:{data}", metric=metric)
    assert _read(checkout / "params.yaml")["ingest"]["task"] == task


@pytest.mark.parametrize(("build", "metric", "cells"), [
    (categories_by_number, None, "a label"),
    (kind_and_individual, "map@5", "the 3 likeliest labels"),
    (tags_that_the_sample_parts, None, "the labels that apply"),
    (class_folders_a_table_and_a_blank_sample, None, "a label"),
    (a_patient_and_more_columns, None, "the probability of '1'"),
])  # fmt: skip
def test_what_a_submission_holds_shows_after_the_run(
    build: Callable[[Path], None], metric: str | None, cells: str, data: Path, checkout: Path
) -> None:
    build(data)
    assert f"a submission's cells: {cells}" in init.run(f"path:{data}", metric=metric)


def test_a_sample_that_nothing_fits_stops_the_last_stage_without_a_warning(
    data: Path, checkout: Path, refusal: Callable[..., str]
) -> None:
    rows = labelled(18)
    write_images(data, [f"train/{name}.png" for name, _ in rows])
    write_csv(data / "train.csv", {"id": [n for n, _ in rows], "label": [label for _, label in rows]})
    write_test_set(data, {"label": "137790 0.1"})
    said = "\n".join(init.run(f"path:{data}"))
    assert "submit would stop: sample_submission.csv has the targets ['label'] with cells such as" in said
    before = (checkout / "params.yaml").read_bytes()
    assert "blend.metric is rmse, which is for regression targets" in refusal(
        "init", "--from", f"path:{data}", "--metric", "rmse"
    )
    assert (checkout / "params.yaml").read_bytes() == before


def test_a_group_is_named_of_which_the_test_set_has_no_new_ones(data: Path, checkout: Path) -> None:
    categories_by_number(data)
    init.run(f"path:{data}")
    assert _read(checkout / "params.yaml")["ingest"]["train"]["group"] == "location"


def _no_images(root: Path) -> None:
    write_csv(root / "train.csv", {"id": [1], "label": [0]})


def _no_test(root: Path) -> None:
    write_images(root, [f"pictures/{label}/{i}.png" for i in range(4) for label in LABELS])


def _two_labels(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    write_csv(
        root / "train.csv", {"id": [n for n, _ in rows], "colour": ["red", "blue"] * 9, "shape": ["o", "x", "v"] * 6}
    )
    write_test_set(root, {"answer": 0.5})


def _four_images_an_id(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}_{c}.png" for name, _ in rows for c in ("blue", "green", "red")])
    write_csv(root / "train.csv", {"id": [n for n, _ in rows], "label": [label for _, label in rows]})
    write_test_set(root, {"label": "cat"})


def _a_row_for_each_label(root: Path) -> None:
    rows = [(name, label) for name, _ in labelled(12) for label in LABELS[:2]]
    write_images(root, sorted({f"train/{name}.png" for name, _ in rows}))
    write_csv(root / "train.csv", {"id": [n for n, _ in rows], "label": [label for _, label in rows]})
    write_test_set(root, dict.fromkeys(LABELS[:2], 0.5))


def _pixels_in_a_table(root: Path) -> None:
    write_csv(root / "train.csv", {"label": [0, 1], "pixel0": [3, 4], "pixel1": [5, 6]})


def _a_sample_of_ids_alone(root: Path) -> None:
    _unlabelled(root)
    write_csv(root / "sample_submission.csv", {"id": range(4)})


def _nothing_to_learn(root: Path) -> None:
    _unlabelled(root)
    write_csv(root / "train.csv", {"id": range(8), "split": ["train"] * 6 + ["test"] * 2})


def _paths_of_another_machine(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    write_csv(root / "train.csv", {"id": [f"/kaggle/x/train/{n}.png" for n, _ in rows], "label": [y for _, y in rows]})
    write_test_set(root, {"label": 0})


def _one_label(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    write_csv(root / "train.csv", {"id": [name for name, _ in rows], "label": ["cat"] * 18})
    write_test_set(root, {"label": 0})


def _unlabelled(root: Path) -> None:
    write_images(root, [f"train/{i}.png" for i in range(8)] + [f"test/{i}.png" for i in range(4)])


def _ids_without_their_zeros(root: Path) -> None:
    write_images(root, [f"train/{i:05}.png" for i in range(8)] + [f"test/{i:05}.png" for i in range(20, 24)])
    write_csv(root / "train.csv", {"id": range(8), "label": ["cat", "dog"] * 4})
    write_csv(root / "sample_submission.csv", {"id": range(20, 24), "label": ["cat"] * 4})


def _ids_of_few_images(root: Path) -> None:
    write_images(root, [f"train/{i}.png" for i in range(8)] + [f"test/{i}.png" for i in range(20, 24)])
    write_csv(root / "train.csv", {"id": range(8), "label": ["cat", "dog"] * 4})
    write_csv(root / "sample_submission.csv", {"id": range(20, 30), "label": ["cat"] * 10})


def _ids_like_those_of_training_images(root: Path) -> None:
    write_images(root, [f"train/{i:03}.png" for i in range(8)] + [f"test/{c}.png" for c in "abcd"])
    write_csv(root / "train.csv", {"id": [f"{i:03}" for i in range(8)], "label": ["cat", "dog"] * 4})
    write_csv(root / "sample_submission.csv", {"id": range(4), "label": ["cat"] * 4})


def _ids_of_another_suffix(root: Path) -> None:
    write_images(root, [f"train/a{i}.png" for i in range(8)] + [f"test/b{i}.png" for i in range(4)])
    write_csv(root / "train.csv", {"id": [f"a{i}.jpg" for i in range(8)], "label": ["cat", "dog"] * 4})
    write_csv(root / "sample_submission.csv", {"id": [f"b{i}.jpg" for i in range(4)], "label": ["cat"] * 4})


REFUSED: dict[Callable[[Path], None], str] = {
    _no_images: "holds no images; there are 1 files of .csv",
    _no_test: "which are the test images?",
    _two_labels: "which column of train.csv is the label: colour, shape? Say so by --label",
    _four_images_an_id: "'id' leads to train/{id}_blue.png or train/{id}_green.png or train/{id}_red.png",
    _a_row_for_each_label: "train.csv has several rows an image ('id'): an image is one row, its labels in one cell",
    _pixels_in_a_table: "pixels that stand in a table's cells have to be written as image files first",
    _a_sample_of_ids_alone: "sample_submission.csv has the column 'id' alone; an id and at least one target are needed",
    _nothing_to_learn: "no column of train.csv can be the label: besides ids there is none of several values",
    _ids_without_their_zeros: "20 would be test/00020.png but for its leading zeros: write the ids as the files are",
    _ids_of_another_suffix: "b0.jpg would be test/b0.png but for its suffix: write the ids as the files are named",
    _ids_of_few_images: "is named by the ids of sample_submission.csv ('id': 20, 21); of 10 ids 4 name an image",
    _ids_like_those_of_training_images: "by the ids of sample_submission.csv ('id': 0, 1); seen: 8 images in train/;",
    _paths_of_another_machine: "train.csv: 'id' is a path ('/kaggle/x/train/im00.png') that leads to no image",
    _one_label: "no column of train.csv can be the label: besides ids there is none of several values",
    _unlabelled: "no table, no folders and no file names tell the labels; seen: 8 images in train/; 4 images in test/",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_what_nothing_decides_is_guessed(
    build: Callable[[Path], None], data: Path, checkout: Path, refusal: Callable[..., str]
) -> None:
    build(data)
    before = (checkout / "params.yaml").read_bytes()
    assert REFUSED[build] in refusal("init", "--from", f"path:{data}")
    assert (checkout / "params.yaml").read_bytes() == before


def test_an_answer_on_the_command_line_changes_nothing(data: Path, checkout: Path) -> None:
    _two_labels(data)
    init.run(f"path:{data}", given=Given(label=("shape",)))
    assert _read(checkout / "params.yaml")["ingest"]["train"]["label"] == "shape"
    shutil.rmtree(data)
    _four_images_an_id(data)
    init.run(f"path:{data}", given=Given(image="train/{id}_green.png"))
    assert set(_ingested().query("split == 'train'")["file"].str[-9:]) == {"green.png"}
    shutil.rmtree(data / "test")
    write_images(data, [f"test/te{n}_{c}.png" for n in range(4) for c in ("blue", "green")])
    init.run(f"path:{data}", given=Given(image="train/{id}_green.png"))
    assert set(_ingested()["file"].str[-9:]) == {"green.png"}


def test_a_label_that_was_named_is_looked_for_in_one_table_only(
    data: Path, checkout: Path, refusal: Callable[..., str]
) -> None:
    names = [name for name, _ in labelled(18)]
    write_images(data, [f"train/{name}.png" for name in names] + [f"test/{n}.png" for n in range(4)])
    write_csv(data / "boxes.csv", {"id": names, "x": range(0, 36, 2)})
    measures = {"height": np.arange(18) / 8, "width": np.arange(18) / 4, "colour": list("rgb") * 6}
    write_csv(data / "plants.csv", {"id": names, **measures})
    init.run(f"path:{data}", given=Given(label=("height", "width")))
    assert _read(checkout / "params.yaml")["ingest"]["train"]["labels"] == ["height", "width"]
    said = refusal("init", "--from", f"path:{data}", "--label", "weight")
    assert "no column of a table with weight leads to images" in said


def test_a_default_run_stops_at_a_learner_that_refuses_so_many_classes(data: Path, checkout: Path) -> None:
    write_images(data, [f"train/class {number}/{i}.png" for number in range(310) for i in range(2)])
    write_images(data, [f"test/{i}.png" for i in range(4)])
    said = "\n".join(init.run(f"path:{data}"))
    assert list(_read(checkout / "params.yaml")["learn"]["learners"]) == ["logistic", "mlp"]
    assert "left svm out of learn.learners: svm fits a machine for each pair of classes" in said
    assert "left lightgbm out of learn.learners: lightgbm: 300 trees for each of 310 names" in said


def test_what_was_said_of_another_data_set_stays_or_what_f1_is_of_is_not_told(
    data: Path, checkout: Path, refusal: Callable[..., str]
) -> None:
    rows = labelled(18, ["{bad} one", "ok"])
    write_images(data, [f"train/{name}.png" for name, _ in rows])
    write_csv(data / "train.csv", {"id": [n for n, _ in rows], "label": [label for _, label in rows]})
    write_test_set(data, {"label": "ok"})
    text = (checkout / "params.yaml").read_text()
    text = text.replace("  format: auto ", "  format: list ").replace("  classes:  ", "  classes: [cat, dog]  ")
    (checkout / "params.yaml").write_text(text)
    said = init.run(f"path:{data}", metric="f1")
    assert """F1 is that of '{bad} one'; ingest.classes: ["{bad} one", "ok"] makes it that of 'ok'""" in said
    found = _read(checkout / "params.yaml")
    assert (found["ingest"]["classes"], found["submit"]["format"]) == (None, "auto")
    write_test_set(data, {"label": 0.5})
    assert "a submission's cells: the probability of '{bad} one'" in init.run(f"path:{data}")
    rows = labelled(18, ["mild", "none", "severe"])
    write_csv(data / "train.csv", {"id": [n for n, _ in rows], "label": [label for _, label in rows]})
    write_test_set(data, {"label": "none"})
    refused = refusal("init", "--from", f"path:{data}", "--metric", "qwk")
    assert "set ingest.task to ordinal, ingest.classes to them" in refused
    assert "without it init writes the rest" in refused
