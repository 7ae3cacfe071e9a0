"""`goulot init`: layouts of many kinds are worked out from the files alone; what nothing decides is refused."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from goulot import cli, layout, targets
from goulot.artifacts import read_json, read_table
from goulot.commands import init
from goulot.discovery import Given
from tests.competitions import make_competition
from tests.conftest import ROOT

LABELS = ("cat", "dog", "owl")
RNG = np.random.default_rng(0)


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


def _images(root: Path, files: Sequence[str]) -> None:
    for file in files:
        _image(root / file)


def _rows(count: int, labels: Sequence[Any] = LABELS) -> list[tuple[str, Any]]:
    return [(f"im{n:02d}", labels[n % len(labels)]) for n in range(count)]


def _csv(path: Path, columns: dict[str, Sequence[Any]], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False, **options)


def _test_set(root: Path, targets: dict[str, Any], ids: Sequence[str] = ("te0", "te1", "te2", "te3")) -> None:
    _images(root, [f"test/{i}.png" for i in ids])
    _csv(root / "sample_submission.csv", {"id": ids, **{name: [value] * len(ids) for name, value in targets.items()}})


def class_folders_without_any_table(root: Path) -> None:
    _images(root, [f"train/{label}/{i}.png" for i in range(6) for label in LABELS])
    _images(root, [f"test/{i}.png" for i in range(4)])


def class_folders_beside_the_test_folder(root: Path) -> None:
    _images(root, [f"{label}/{i}.jpg" for i in range(6) for label in LABELS])
    _images(root, [f"test/{i}.jpg" for i in range(4)])


def class_folders_and_a_validation_folder(root: Path) -> None:
    _images(
        root, [f"data/{part}/{label}/{part}{i}.png" for part in ("train", "val") for i in range(6) for label in LABELS]
    )
    _images(root, [f"data/test/{label}/{i}.png" for label in LABELS for i in range(2)])


def class_folders_of_mixed_suffixes(root: Path) -> None:
    _images(
        root,
        [f"train/{label}/{i}{suffix}" for i, suffix in enumerate((".jpg", ".png", ".JPG") * 2) for label in LABELS],
    )
    _test_set(root, dict.fromkeys(LABELS, 0.33))


def drivers(root: Path) -> None:
    rows = [(f"p{n % 12:03d}", f"c{n % 3}", f"img_{n}.jpg") for n in range(36)]
    _images(root, [f"imgs/train/{label}/{name}" for _, label, name in rows])
    _images(root, [f"imgs/test/img_{n}.jpg" for n in range(100, 104)])
    _csv(
        root / "driver_imgs_list.csv", dict(zip(("subject", "classname", "img"), zip(*rows, strict=True), strict=True))
    )
    ids = [f"img_{n}.jpg" for n in range(100, 104)]
    _csv(root / "sample_submission.csv", {"img": ids, **{f"c{k}": [0.3] * 4 for k in range(3)}})


def one_numbering_for_both_folders(root: Path) -> None:
    _images(root, [f"train/{n}.png" for n in range(1, 31)] + [f"test/{n}.png" for n in range(1, 41)])
    _csv(root / "trainLabels.csv", {"id": range(1, 31), "label": [LABELS[n % 3] for n in range(30)]})
    _csv(root / "sampleSubmission.csv", {"id": range(1, 41), "label": ["cat"] * 40})


def label_and_number_in_the_name(root: Path) -> None:
    _images(root, [f"images/train/great_{label}_{n}.jpg" for label in LABELS for n in range(6)])
    _images(root, [f"images/test/{n}.jpg" for n in range(4)])


def letters_then_digits(root: Path) -> None:
    _images(root, [f"train/{label}{n}.jpg" for label in LABELS for n in range(6)])
    _images(root, [f"test/x{n}.jpg" for n in range(4)])


def json_records(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name}.png" for name, _ in rows])
    (root / "train.json").write_text(json.dumps([{"image": f"{name}.png", "class": label} for name, label in rows]))
    _test_set(root, {"class": "cat"})


def json_lines_with_lists(root: Path) -> None:
    sets = [["cat"], ["cat", "dog"], ["owl"], ["dog", "owl"], []]
    rows = _rows(20, sets)
    _images(root, [f"pictures/{name}.png" for name, _ in rows])
    lines = [json.dumps({"file": f"pictures/{name}.png", "tags": tags}) for name, tags in rows]
    (root / "train.jsonl").write_text("\n".join(lines) + "\n")
    _test_set(root, {"tags": "cat dog"})


def coco(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name}.png" for name, _ in rows] + [f"test/te{n}.png" for n in range(4)])
    names = [{"id": 10 + n, "name": label} for n, label in enumerate(LABELS)]
    images = [{"id": n, "file_name": f"{name}.png", "width": 8} for n, (name, _) in enumerate(rows)]
    marks = [{"id": n, "image_id": n, "category_id": 10 + LABELS.index(label)} for n, (_, label) in enumerate(rows)]
    (root / "train.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": names}))
    tests = [{"id": 100 + n, "file_name": f"te{n}.png", "width": 8} for n in range(4)]
    (root / "test.json").write_text(json.dumps({"images": tests}))
    _csv(root / "sample_submission.csv", {"Id": range(100, 104), "Predicted": ["cat"] * 4})


def labels_by_id(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name}.png" for name, _ in rows] + [f"test/te{n}.png" for n in range(4)])
    (root / "labels.json").write_text(json.dumps(dict(rows)))


def semicolons_and_a_bom(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name}.png" for name, _ in rows])
    text = "\r\n".join(["image;species", *(f"{name};{label}" for name, label in rows)])
    (root / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    _test_set(root, {"species": "cat"})


def tabs_and_parquet(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name}.png" for name, _ in rows])
    pd.DataFrame(rows, columns=["id", "species"]).to_parquet(root / "train.parquet")
    ids = [f"te{n}" for n in range(4)]
    _images(root, [f"test/{i}.png" for i in ids])
    _csv(root / "test.tsv", {"id": ids}, sep="\t")


def a_list_of_files_without_a_header(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"images/{name}.png" for name, _ in rows] + [f"images/te{n}.png" for n in range(4)])
    (root / "train.txt").write_text("".join(f"images/{name}.png {LABELS.index(label)}\n" for name, label in rows))
    (root / "test.txt").write_text("".join(f"images/te{n}.png 0\n" for n in range(4)))


def one_table_with_a_split_column(root: Path) -> None:
    rows = _rows(22)
    _images(root, [f"images/{label}/{name}.png" for name, label in rows])
    split = ["train"] * 18 + ["test"] * 4
    names = [name for name, _ in rows]
    _csv(root / "metadata.csv", {"name": names, "split": split, "label": [label for _, label in rows]})


def separated_tags(root: Path) -> None:
    sets = ["scab", "rust", "scab rust", "healthy", "complex", "rust complex", "scab complex"]
    rows = _rows(28, sets)
    _images(root, [f"train_images/{name}.jpg" for name, _ in rows] + [f"test_images/te{n}.jpg" for n in range(4)])
    _csv(root / "train.csv", {"image": [f"{name}.jpg" for name, _ in rows], "labels": [label for _, label in rows]})
    _csv(root / "sample_submission.csv", {"image": [f"te{n}.jpg" for n in range(4)], "labels": ["healthy"] * 4})


def numbered_tags(root: Path) -> None:
    sets = ["0", "16 0", "7", "7 16", "0 7"]
    rows = _rows(20, sets)
    _images(root, [f"train/{name}.png" for name, _ in rows])
    _csv(root / "train.csv", {"Id": [name for name, _ in rows], "Target": [label for _, label in rows]})
    _test_set(root, {"Predicted": "0"})


def names_of_several_words(root: Path) -> None:
    rows = _rows(18, ["golden retriever", "labrador retriever", "basset"])
    _images(root, [f"train/{name}.png" for name, _ in rows])
    _csv(root / "train.csv", {"id": [name for name, _ in rows], "breed": [label for _, label in rows]})
    _test_set(root, {"breed": "basset"})


def several_measures(root: Path) -> None:
    names = [f"im{n:02d}" for n in range(18)]
    _images(root, [f"images_training/{name}.jpg" for name in names] + [f"images_test/te{n}.jpg" for n in range(4)])
    _csv(root / "training_solutions.csv", {"GalaxyID": names, "Class1.1": RNG.random(18), "Class1.2": RNG.random(18)})
    ids = [f"te{n}" for n in range(4)]
    _csv(root / "all_zeros_benchmark.csv", {"GalaxyID": ids, "Class1.1": [0.0] * 4, "Class1.2": [0.0] * 4})


def nested_folders(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name[-1]}/{name[-2]}/{name}.png" for name, _ in rows])
    _csv(root / "train.csv", {"id": [name for name, _ in rows], "landmark_id": [label for _, label in rows]})
    _images(root, [f"test/a/te{n}.png" for n in range(4)])
    _csv(root / "sample_submission.csv", {"id": [f"te{n}" for n in range(4)], "landmarks": ["cat"] * 4})


def a_patient_and_more_columns(root: Path) -> None:
    names = [f"im{n:02d}" for n in range(60)]
    _images(root, [f"jpeg/train/{name}.jpg" for name in names] + [f"jpeg/test/te{n}.jpg" for n in range(4)])
    _csv(root / "train.csv", {
        "image_name": names, "patient_id": [f"p{n % 20}" for n in range(60)], "sex": ["male", "female", ""] * 20,
        "age_approx": [n % 7 * 10.0 for n in range(60)], "diagnosis": ["nevus", "unknown", "melanoma"] * 20,
        "benign_malignant": ["benign", "benign", "malignant"] * 20, "target": [0, 0, 1] * 20,
    })  # fmt: skip
    _csv(root / "test.csv", {"image_name": [f"te{n}" for n in range(4)], "patient_id": list("abcd"),
                             "sex": ["male"] * 4, "age_approx": [1.0] * 4})  # fmt: skip
    _csv(root / "sample_submission.csv", {"image_name": [f"te{n}" for n in range(4)], "target": [0] * 4})


def two_formats_of_the_same_pictures(root: Path) -> None:
    rows = _rows(18)
    for part, names in (("train", [name for name, _ in rows]), ("test", [f"te{n}" for n in range(4)])):
        _images(root, [f"{part}-{kind}/{name}.{kind}" for kind in ("jpg", "tif") for name in names])
        _images(root, [f"{part}_masks/{name}.png" for name in names])
    _csv(root / "train_classes.csv", {"image_name": [n for n, _ in rows], "tags": [label for _, label in rows]})
    _csv(root / "sample_submission.csv", {"image_name": [f"te{n}" for n in range(4)], "tags": ["cat"] * 4})


CASES: dict[Callable[[Path], None], tuple[str, list[str], int, int]] = {
    class_folders_without_any_table: ("multiclass", list(LABELS), 18, 4),
    class_folders_beside_the_test_folder: ("multiclass", list(LABELS), 18, 4),
    class_folders_and_a_validation_folder: ("multiclass", list(LABELS), 18, 6),
    class_folders_of_mixed_suffixes: ("multiclass", list(LABELS), 18, 4),
    drivers: ("multiclass", ["c0", "c1", "c2"], 36, 4),
    one_numbering_for_both_folders: ("multiclass", list(LABELS), 30, 40),
    label_and_number_in_the_name: ("multiclass", [f"great_{label}" for label in LABELS], 18, 4),
    letters_then_digits: ("multiclass", list(LABELS), 18, 4),
    json_records: ("multiclass", list(LABELS), 18, 4),
    json_lines_with_lists: ("multilabel", list(LABELS), 20, 4),
    coco: ("multiclass", list(LABELS), 18, 4),
    labels_by_id: ("multiclass", list(LABELS), 18, 4),
    semicolons_and_a_bom: ("multiclass", list(LABELS), 18, 4),
    tabs_and_parquet: ("multiclass", list(LABELS), 18, 4),
    a_list_of_files_without_a_header: ("multiclass", ["0", "1", "2"], 18, 4),
    one_table_with_a_split_column: ("multiclass", list(LABELS), 18, 4),
    separated_tags: ("multilabel", ["complex", "healthy", "rust", "scab"], 28, 4),
    numbered_tags: ("multilabel", ["0", "7", "16"], 20, 4),
    names_of_several_words: ("multiclass", ["basset", "golden retriever", "labrador retriever"], 18, 4),
    several_measures: ("regression", ["Class1.1", "Class1.2"], 18, 4),
    nested_folders: ("multiclass", list(LABELS), 18, 4),
    a_patient_and_more_columns: ("binary", ["0", "1"], 60, 4),
    two_formats_of_the_same_pictures: ("multiclass", list(LABELS), 18, 4),
}


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


@pytest.mark.parametrize("name", make_competition.SPECS)
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


@pytest.mark.parametrize(("metric", "task"), [("accuracy", "multiclass"), ("qwk", "ordinal"), ("mae", "regression")])
def test_the_metric_does_not_say_what_whole_numbers_are(metric: str, task: str, data: Path, checkout: Path) -> None:
    rows = _rows(20, [0, 1, 2, 3])
    _images(data, [f"train_images/{name}.jpg" for name, _ in rows])
    _csv(data / "train.csv", {"image_id": [f"{name}.jpg" for name, _ in rows], "label": [label for _, label in rows]})
    _test_set(data, {"label": 0})
    init.run(f"path:{data}", metric=metric)
    assert _read(checkout / "params.yaml")["ingest"]["task"] == task


def _no_images(root: Path) -> None:
    _csv(root / "train.csv", {"id": [1], "label": [0]})


def _no_test(root: Path) -> None:
    _images(root, [f"pictures/{label}/{i}.png" for i in range(4) for label in LABELS])


def _two_labels(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name}.png" for name, _ in rows])
    _csv(root / "train.csv", {"id": [n for n, _ in rows], "colour": ["red", "blue"] * 9, "shape": ["o", "x", "v"] * 6})
    _test_set(root, {"answer": 0.5})


def _four_images_an_id(root: Path) -> None:
    rows = _rows(18)
    _images(root, [f"train/{name}_{c}.png" for name, _ in rows for c in ("blue", "green", "red")])
    _csv(root / "train.csv", {"id": [n for n, _ in rows], "label": [label for _, label in rows]})
    _test_set(root, {"label": "cat"})


def _unlabelled(root: Path) -> None:
    _images(root, [f"train/{i}.png" for i in range(8)] + [f"test/{i}.png" for i in range(4)])


REFUSED: dict[Callable[[Path], None], str] = {
    _no_images: "holds no images; there are 1 files of .csv",
    _no_test: "which are the test images?",
    _two_labels: "which column of train.csv is the label: colour, shape? Say so by --label",
    _four_images_an_id: "'id' leads to train/{id}_blue.png or train/{id}_green.png or train/{id}_red.png",
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
    init.run(f"path:{data}", given=Given(label="shape"))
    assert _read(checkout / "params.yaml")["ingest"]["train"]["label"] == "shape"
    shutil.rmtree(data)
    _four_images_an_id(data)
    init.run(f"path:{data}", given=Given(image="train/{id}_green.png"))
    assert set(_ingested().query("split == 'train'")["file"].str[-9:]) == {"green.png"}
