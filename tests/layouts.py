"""Data sets of many layouts, small: each is a function that writes one below a folder; CASES says what is in it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

LABELS = ("cat", "dog", "owl")
RNG = np.random.default_rng(0)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


def write_images(root: Path, files: Sequence[str]) -> None:
    for file in files:
        write_image(root / file)


def labelled(count: int, labels: Sequence[Any] = LABELS) -> list[tuple[str, Any]]:
    return [(f"im{n:02d}", labels[n % len(labels)]) for n in range(count)]


def write_csv(path: Path, columns: dict[str, Sequence[Any]], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False, **options)


def write_test_set(root: Path, targets: dict[str, Any], ids: Sequence[str] = ("te0", "te1", "te2", "te3")) -> None:
    write_images(root, [f"test/{i}.png" for i in ids])
    write_csv(
        root / "sample_submission.csv", {"id": ids, **{name: [value] * len(ids) for name, value in targets.items()}}
    )


def class_folders_without_any_table(root: Path) -> None:
    write_images(root, [f"train/{label}/{i}.png" for i in range(6) for label in LABELS])
    write_images(root, [f"test/{i}.png" for i in range(4)])


def class_folders_beside_the_test_folder(root: Path) -> None:
    write_images(root, [f"{label}/{i}.jpg" for i in range(6) for label in LABELS])
    write_images(root, [f"test/{i}.jpg" for i in range(4)])


def class_folders_and_a_validation_folder(root: Path) -> None:
    write_images(
        root, [f"data/{part}/{label}/{part}{i}.png" for part in ("train", "val") for i in range(6) for label in LABELS]
    )
    write_images(root, [f"data/test/{label}/{i}.png" for label in LABELS for i in range(2)])


def class_folders_of_mixed_suffixes(root: Path) -> None:
    write_images(
        root,
        [f"train/{label}/{i}{suffix}" for i, suffix in enumerate((".jpg", ".png", ".JPG") * 2) for label in LABELS],
    )
    write_test_set(root, dict.fromkeys(LABELS, 0.33))


def drivers(root: Path) -> None:
    rows = [(f"p{n % 12:03d}", f"c{n % 3}", f"img_{n}.jpg") for n in range(36)]
    write_images(root, [f"imgs/train/{label}/{name}" for _, label, name in rows])
    write_images(root, [f"imgs/test/img_{n}.jpg" for n in range(100, 104)])
    write_csv(
        root / "driver_imgs_list.csv", dict(zip(("subject", "classname", "img"), zip(*rows, strict=True), strict=True))
    )
    ids = [f"img_{n}.jpg" for n in range(100, 104)]
    write_csv(root / "sample_submission.csv", {"img": ids, **{f"c{k}": [0.3] * 4 for k in range(3)}})


def one_numbering_for_both_folders(root: Path) -> None:
    write_images(root, [f"train/{n}.png" for n in range(1, 31)] + [f"test/{n}.png" for n in range(1, 41)])
    write_csv(root / "trainLabels.csv", {"id": range(1, 31), "label": [LABELS[n % 3] for n in range(30)]})
    write_csv(root / "sampleSubmission.csv", {"id": range(1, 41), "label": ["cat"] * 40})


def label_and_number_in_the_name(root: Path) -> None:
    write_images(root, [f"images/train/great_{label}_{n}.jpg" for label in LABELS for n in range(6)])
    write_images(root, [f"images/test/{n}.jpg" for n in range(4)])


def letters_then_digits(root: Path) -> None:
    write_images(root, [f"train/{label}{n}.jpg" for label in LABELS for n in range(6)])
    write_images(root, [f"test/x{n}.jpg" for n in range(4)])


def json_records(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    (root / "train.json").write_text(json.dumps([{"image": f"{name}.png", "class": label} for name, label in rows]))
    write_test_set(root, {"class": "cat"})


def json_lines_with_lists(root: Path) -> None:
    sets = [["cat"], ["cat", "dog"], ["owl"], ["dog", "owl"], []]
    rows = labelled(20, sets)
    write_images(root, [f"pictures/{name}.png" for name, _ in rows])
    lines = [json.dumps({"file": f"pictures/{name}.png", "tags": tags}) for name, tags in rows]
    (root / "train.jsonl").write_text("\n".join(lines) + "\n")
    write_test_set(root, {"tags": "cat dog"})


def coco(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows] + [f"test/te{n}.png" for n in range(4)])
    names = [{"id": 10 + n, "name": label} for n, label in enumerate(LABELS)]
    images = [{"id": n, "file_name": f"{name}.png", "width": 8} for n, (name, _) in enumerate(rows)]
    marks = [{"id": n, "image_id": n, "category_id": 10 + LABELS.index(label)} for n, (_, label) in enumerate(rows)]
    (root / "train.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": names}))
    tests = [{"id": 100 + n, "file_name": f"te{n}.png", "width": 8} for n in range(4)]
    (root / "test.json").write_text(json.dumps({"images": tests}))
    write_csv(root / "sample_submission.csv", {"Id": range(100, 104), "Predicted": ["cat"] * 4})


def labels_by_id(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows] + [f"test/te{n}.png" for n in range(4)])
    (root / "labels.json").write_text(json.dumps(dict(rows)))


def semicolons_and_a_bom(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    text = "\r\n".join(["image;species", *(f"{name};{label}" for name, label in rows)])
    (root / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    write_test_set(root, {"species": "cat"})


def tabs_and_parquet(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    pd.DataFrame(rows, columns=["id", "species"]).to_parquet(root / "train.parquet")
    ids = [f"te{n}" for n in range(4)]
    write_images(root, [f"test/{i}.png" for i in ids])
    write_csv(root / "test.tsv", {"id": ids}, sep="\t")


def a_list_of_files_without_a_header(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"images/{name}.png" for name, _ in rows] + [f"images/te{n}.png" for n in range(4)])
    (root / "train.txt").write_text("".join(f"images/{name}.png {LABELS.index(label)}\n" for name, label in rows))
    (root / "test.txt").write_text("".join(f"images/te{n}.png 0\n" for n in range(4)))


def one_table_with_a_split_column(root: Path) -> None:
    rows = labelled(22)
    write_images(root, [f"images/{label}/{name}.png" for name, label in rows])
    split = ["train"] * 18 + ["test"] * 4
    names = [name for name, _ in rows]
    write_csv(root / "metadata.csv", {"name": names, "split": split, "label": [label for _, label in rows]})


def separated_tags(root: Path) -> None:
    sets = ["scab", "rust", "scab rust", "healthy", "complex", "rust complex", "scab complex"]
    rows = labelled(28, sets)
    write_images(root, [f"train_images/{name}.jpg" for name, _ in rows] + [f"test_images/te{n}.jpg" for n in range(4)])
    write_csv(
        root / "train.csv", {"image": [f"{name}.jpg" for name, _ in rows], "labels": [label for _, label in rows]}
    )
    write_csv(root / "sample_submission.csv", {"image": [f"te{n}.jpg" for n in range(4)], "labels": ["healthy"] * 4})


def numbered_tags(root: Path) -> None:
    sets = ["0", "16 0", "7", "7 16", "0 7"]
    rows = labelled(20, sets)
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    write_csv(root / "train.csv", {"Id": [name for name, _ in rows], "Target": [label for _, label in rows]})
    write_test_set(root, {"Predicted": "0"})


def names_of_several_words(root: Path) -> None:
    rows = labelled(18, ["golden retriever", "labrador retriever", "basset"])
    write_images(root, [f"train/{name}.png" for name, _ in rows])
    write_csv(root / "train.csv", {"id": [name for name, _ in rows], "breed": [label for _, label in rows]})
    write_test_set(root, {"breed": "basset"})


def several_measures(root: Path) -> None:
    names = [f"im{n:02d}" for n in range(18)]
    write_images(root, [f"images_training/{name}.jpg" for name in names] + [f"images_test/te{n}.jpg" for n in range(4)])
    write_csv(
        root / "training_solutions.csv", {"GalaxyID": names, "Class1.1": RNG.random(18), "Class1.2": RNG.random(18)}
    )
    ids = [f"te{n}" for n in range(4)]
    write_csv(root / "all_zeros_benchmark.csv", {"GalaxyID": ids, "Class1.1": [0.0] * 4, "Class1.2": [0.0] * 4})


def nested_folders(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name[-1]}/{name[-2]}/{name}.png" for name, _ in rows])
    write_csv(root / "train.csv", {"id": [name for name, _ in rows], "landmark_id": [label for _, label in rows]})
    write_images(root, [f"test/a/te{n}.png" for n in range(4)])
    write_csv(root / "sample_submission.csv", {"id": [f"te{n}" for n in range(4)], "landmarks": ["cat"] * 4})


def a_patient_and_more_columns(root: Path) -> None:
    names = [f"im{n:02d}" for n in range(60)]
    write_images(root, [f"jpeg/train/{name}.jpg" for name in names] + [f"jpeg/test/te{n}.jpg" for n in range(4)])
    write_csv(root / "train.csv", {
        "image_name": names, "patient_id": [f"p{n % 20}" for n in range(60)], "sex": ["male", "female", ""] * 20,
        "age_approx": [n % 7 * 10.0 for n in range(60)], "diagnosis": ["nevus", "unknown", "melanoma"] * 20,
        "benign_malignant": ["benign", "benign", "malignant"] * 20, "target": [0, 0, 1] * 20,
    })  # fmt: skip
    write_csv(root / "test.csv", {"image_name": [f"te{n}" for n in range(4)], "patient_id": list("abcd"),
                             "sex": ["male"] * 4, "age_approx": [1.0] * 4})  # fmt: skip
    write_csv(root / "sample_submission.csv", {"image_name": [f"te{n}" for n in range(4)], "target": [0] * 4})


def two_formats_of_the_same_pictures(root: Path) -> None:
    rows = labelled(18)
    for part, names in (("train", [name for name, _ in rows]), ("test", [f"te{n}" for n in range(4)])):
        write_images(root, [f"{part}-{kind}/{name}.{kind}" for kind in ("jpg", "tif") for name in names])
        write_images(root, [f"{part}_masks/{name}.png" for name in names])
    write_csv(root / "train_classes.csv", {"image_name": [n for n, _ in rows], "tags": [label for _, label in rows]})
    write_csv(root / "sample_submission.csv", {"image_name": [f"te{n}" for n in range(4)], "tags": ["cat"] * 4})


def categories_by_number(root: Path) -> None:
    """The submission wants the categories' numbers; the test images are of other places."""
    write_images(root, [f"train/a{n:03d}.jpg" for n in range(60)] + [f"test/b{n:03d}.jpg" for n in range(6)])

    def image(name: str, place: int, n: int) -> dict[str, Any]:
        return {"id": name, "file_name": f"{name}.jpg", "seq_id": f"s{n // 3}", "frame_num": n % 3, "location": place}

    images = [image(f"a{n:03d}", n % 11, n) for n in range(60)]
    marks = [{"id": n, "image_id": f"a{n:03d}", "category_id": (0, 24, 71)[n % 3]} for n in range(60)]
    names = [{"id": number, "name": name} for number, name in ((0, "empty"), (24, "peccary"), (71, "ocelot"))]
    (root / "train.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": names}))
    tests = [image(f"b{n:03d}", 100 + n, n) for n in range(6)]
    (root / "test_information.json").write_text(json.dumps({"images": tests, "categories": names}))
    write_csv(root / "sample_submission.csv", {"Id": [i["id"] for i in tests], "Category": [0] * 6})


def tags_that_the_sample_parts(root: Path) -> None:
    sets = ["haze primary", "agriculture clear primary water", "clear primary", "cloudy", "clear primary road"]
    rows = labelled(20, sets)
    write_images(root, [f"train-jpg/{name}.jpg" for name, _ in rows])
    write_images(root, ["test-jpg/te0.jpg", "test-jpg/te1.jpg", "test-jpg-additional/te2.jpg"])
    write_csv(root / "train_v2.csv", {"image_name": [name for name, _ in rows], "tags": [label for _, label in rows]})
    ids = ["te0", "te1", "te2"]
    write_csv(root / "sample_submission_v2.csv", {"image_name": ids, "tags": ["primary clear road water"] * 3})


def class_folders_a_table_and_a_blank_sample(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train_images/{label}/{name}.jpg" for name, label in rows])
    write_images(root, [f"test_images/te{n}.jpg" for n in range(4)])
    write_csv(root / "train.csv", {
        "image_id": [f"{name}.jpg" for name, _ in rows], "label": [label for _, label in rows],
        "variety": ["a", "b"] * 9, "age": range(18),
    })  # fmt: skip
    write_csv(root / "sample_submission.csv", {"image_id": [f"te{n}.jpg" for n in range(4)], "label": [""] * 4})


def suffixes_of_other_case(root: Path) -> None:
    rows = labelled(18)
    write_images(root, [f"train/{name}.JPG" for name, _ in rows] + [f"test/te{n}.JPEG" for n in range(4)])
    columns = {"file_name": [f"{name}.jpg" for name, _ in rows], "label": [label for _, label in rows]}
    write_csv(root / "train_labels.tsv", columns, sep="\t")
    write_csv(root / "sample_sub.csv", {"file_name": [f"te{n}.jpeg" for n in range(4)], "label": ["cat"] * 4})


def kind_and_individual(root: Path) -> None:
    rows = labelled(36, [f"{n:06x}f" for n in (5, 17, 99)])
    write_images(root, [f"train_images/{name}.jpg" for name, _ in rows])
    write_csv(root / "train.csv", {
        "image": [f"{name}.jpg" for name, _ in rows], "species": ["orca", "beluga"] * 18,
        "individual_id": [label for _, label in rows],
    })  # fmt: skip
    write_images(root, [f"test_images/te{n}.jpg" for n in range(4)])
    ids = [f"te{n}.jpg" for n in range(4)]
    write_csv(root / "sample_submission.csv", {"image": ids, "predictions": ["000011f 000005f 000063f"] * 4})


def a_numbered_list_beside_class_folders(root: Path) -> None:
    files = [f"{number:03d}.{label}/{label}_{n}.jpg" for number, label in enumerate(LABELS) for n in range(6)]
    write_images(root, [f"images/{file}" for file in files] + [f"test/{n}.jpg" for n in range(4)])
    (root / "images.txt").write_text("".join(f"{n} {file}\n" for n, file in enumerate(files, start=1)))


def three_parts_of_class_folders(root: Path) -> None:
    write_images(root, [f"seg_train/seg_train/{label}/{n}.jpg" for label in LABELS for n in range(6)])
    write_images(root, [f"seg_test/seg_test/{label}/{n}.jpg" for label in LABELS for n in range(6, 8)])
    write_images(root, [f"seg_pred/seg_pred/{n}.jpg" for n in range(10, 15)])


def labels_and_descriptions(root: Path) -> None:
    names, tests = [f"X_{n:04d}" for n in range(36)], [f"X_{n:04d}" for n in range(900, 904)]
    write_images(root, [f"Training_Input/{name}.jpg" for name in names] + [f"Test_Input/{name}.jpg" for name in tests])
    flags = {label: [float(n % 3 == k) for n in range(36)] for k, label in enumerate(LABELS)}
    write_csv(root / "Training_GroundTruth.csv", {"image": names, **flags})
    more = {"age": [50.0] * 36, "lesion_id": [f"l{n // 2}" for n in range(36)]}
    write_csv(root / "Training_Metadata.csv", {"image": names, **more})
    write_csv(root / "Test_Metadata.csv", {"image": tests, "age": [50.0] * 4})


def measures_by_the_front_of_their_names(root: Path) -> None:
    names = [f"{n + 1000}" for n in range(18)]
    write_images(root, [f"train_images/{name}.jpeg" for name in names])
    write_csv(root / "train.csv", {
        "id": names, "height": RNG.random(18), "X4_mean": RNG.random(18), "X11_mean": RNG.random(18),
        "X4_sd": RNG.random(18),
    })  # fmt: skip
    ids = [f"{n + 5000}" for n in range(4)]
    write_images(root, [f"test_images/{i}.jpeg" for i in ids])
    write_csv(root / "sample_submission.csv", {"id": ids, "X4": [0.1] * 4, "X11": [0.1] * 4})


def a_class_called_train(root: Path) -> None:
    write_images(root, [f"train/{label}/{n}.png" for label in ("bus", "train", "tram") for n in range(6)])
    write_images(root, [f"test/{n}.png" for n in range(4)])


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
    categories_by_number: ("multiclass", ["0", "24", "71"], 60, 6),
    tags_that_the_sample_parts: (
        "multilabel",
        ["agriculture", "clear", "cloudy", "haze", "primary", "road", "water"],
        20,
        3,
    ),
    class_folders_a_table_and_a_blank_sample: ("multiclass", list(LABELS), 18, 4),
    suffixes_of_other_case: ("multiclass", list(LABELS), 18, 4),
    kind_and_individual: ("multiclass", ["000005f", "000011f", "000063f"], 36, 4),
    a_numbered_list_beside_class_folders: ("multiclass", ["000.cat", "001.dog", "002.owl"], 18, 4),
    three_parts_of_class_folders: ("multiclass", list(LABELS), 18, 6),
    labels_and_descriptions: ("multiclass", list(LABELS), 36, 4),
    measures_by_the_front_of_their_names: ("regression", ["X4_mean", "X11_mean"], 18, 4),
    a_class_called_train: ("multiclass", ["bus", "train", "tram"], 18, 4),
}
