"""A submission that the competition would refuse is not written; one that it takes has its ids, order and form."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from goulot import decisions, faults, labelling, layout, metrics, scoring
from goulot.artifacts import read_json, read_table, write_json, write_table
from goulot.commands import init
from goulot.decisions import Rule
from goulot.discovery import Given
from goulot.errors import SubmissionError
from goulot.submission import Kind, detect, fill, form, read_sample
from goulot.targets import Target, Task
from tests import tiny
from tests.tiny import Workspace

CLASSES = Target("binary", ["bad", "good"])
CODES = Target("binary", ["0", "1"])
GRADES = Target("ordinal", ["0", "1", "2"])
PLANTS = Target("multiclass", ["Maize", "Sugar beet", "Loose Silky-bent"])
FLAGS = Target("multilabel", ["a", "b", "c"])
LOG_LOSS, F1 = metrics.find("log_loss"), metrics.find("f1_micro")
P = np.array([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])
P3 = np.array([[0.2, 0.7, 0.1], [0.3, 0.1, 0.6], [0.8, 0.1, 0.1]])


def sample(*cells: str, ids: str = "312", column: str = "target") -> pd.DataFrame:
    return pd.DataFrame({"Id": list(ids), column: cells or ["0.5"] * len(ids)})


def filled(
    table: pd.DataFrame, target: Target = CLASSES, *, p: np.ndarray = P, metric: str = "auto", kind: Kind | None = None,
    ids: str | list[str] = "123", rule: Rule | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The sample filled in the form that is read off it, and accepted by the row-by-row check."""
    judge = metrics.of(metric, target)
    shape = form(table, target, judge, kind or detect(table, target, judge))
    done = fill(table, list(ids), p, target, shape, rule or decisions.plain(judge, target))
    assert faults.find(faults.parse(done.to_csv(index=False)), table, target, shape) == []
    return done


FORMS = [
    (sample("0.5", "0", "1"), CLASSES, "log_loss", "probability"),
    (sample("0", "0", "0"), CODES, "roc_auc", "probability"),
    (sample("0", "0", "0"), CODES, "f1", "label"),
    (sample("0", "0", "0"), CLASSES, "f1", "label"),
    (sample("0", "1", "0"), CODES, "log_loss", "label"),
    (sample("good", "good", "good"), CLASSES, "log_loss", "label"),
    (sample("2", "2", "2"), GRADES, "qwk", "label"),
    (sample("0.0", "0.0", "0.0"), GRADES, "qwk", "label"),
    (sample(*["Sugar beet"] * 3), PLANTS, "f1_micro", "label"),
    (sample(*["Sugar beet"] * 3), PLANTS, "map@3", "top"),
    (sample(*["Sugar beet Maize"] * 3), PLANTS, "accuracy", "top"),
    (sample(*["Maize,Sugar beet"] * 3), PLANTS, "accuracy", "top"),
    (sample(*["Maize unheard"] * 3), PLANTS, "accuracy", "top"),
    (pd.DataFrame({"id": ["1"], "good": ["0"], "bad": ["0"]}), CLASSES, "log_loss", "columns"),
    (pd.DataFrame({"id": ["1"], "c0": ["0"], "c1": ["0"], "c2": ["0"]}), GRADES, "log_loss", "columns"),
    (pd.DataFrame({"id": ["1"], "b": ["0"], "a": ["0"], "c": ["0"]}), FLAGS, "roc_auc", "columns"),
    (sample("a b", "", "c"), FLAGS, "f1_samples", "list"),
    (sample("1", "2", "3"), Target("regression", ["x"]), "rmse", "number"),
]


@pytest.mark.parametrize(("table", "target", "metric", "kind"), FORMS)
def test_the_form_is_misread(table: pd.DataFrame, target: Target, metric: str, kind: str) -> None:
    assert detect(table, target, metrics.find(metric)) == kind


@pytest.mark.parametrize("target", [CLASSES, PLANTS])
def test_a_sample_of_no_known_form_is_filled(target: Target) -> None:
    with pytest.raises(SubmissionError, match=r"fit none of the \w+ names.*set submit.format"):
        detect(sample("x", "y", "z"), target, LOG_LOSS)


def test_the_sample_s_order_or_columns_are_lost() -> None:
    done = filled(sample())
    assert done.columns.tolist() == ["Id", "target"]
    assert done.to_numpy().tolist() == [["3", 0.5], ["1", 0.8], ["2", 0.1]]
    assert filled(sample(*["good"] * 3))["target"].tolist()[1:] == ["good", "bad"]
    assert filled(sample(*"000"), metric="accuracy")["target"].tolist()[1:] == ["1", "0"]
    wide = pd.DataFrame({"Id": list("312"), "good": "0", "bad": "0"})
    assert filled(wide).to_numpy().tolist()[1] == ["1", 0.8, 0.2]


@pytest.mark.parametrize(("column", "classes", "second"), [
    ("target", None, "good"), ("good", None, "good"), ("bad", None, "bad"), ("target", ["good", "bad"], "bad"),
    ("bad", ["bad", "good"], "good"),
])  # fmt: skip
def test_a_probability_a_code_or_f1_is_of_the_other_class(column: str, classes: list[str] | None, second: str) -> None:
    table = sample(*"000", column=column)
    cells = pd.DataFrame({"label": ["good", "bad", "bad"]})
    target = labelling.target(cells, ["label"], None, "auto", table, classes)
    assert target.names[1] == second
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])  # of the second one, by id
    probability = filled(table.assign(**{column: "0.5"}), target, p=p)
    assert probability[column].tolist() == [0.4, 0.1, 0.8]
    decided = filled(table, target, p=p, metric="f1")
    assert decided[column].tolist() == ["0", "0", "1"]
    solution = table.assign(**{column: list("101")})
    f1, shape = metrics.of("f1", target), form(table, target, metrics.of("f1", target), "label")
    assert scoring.score(decided, solution, target, shape, f1)["f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("cell", "names", "texts"), [
    ("0", ["0.0", "1.0", "2.0"], ["0", "1", "2"]), ("0.0", ["0", "1", "2"], ["0.0", "1.0", "2.0"]),
    ("1", ["0", "1", "2"], ["0", "1", "2"]), ("2.0", ["1.0", "2.0", "3.0"], ["1.0", "2.0", "3.0"]),
])  # fmt: skip
def test_a_grade_is_not_written_as_the_sample_writes_it(cell: str, names: list[str], texts: list[str]) -> None:
    target = Target("ordinal", names)
    assert filled(sample(*[cell] * 3), target, p=np.eye(3))["target"].tolist() == [texts[2], texts[0], texts[1]]


def test_classes_that_codes_stand_for_are_written_as_others() -> None:
    swapped = Target("binary", ["1.0", "0.0"])
    assert filled(sample(*"000"), swapped, metric="f1")["target"].tolist() == ["1", "0", "1"]
    coded = Target("multiclass", ["001", "002", "010"])
    assert filled(sample(*"000"), coded, p=P3, kind="label")["target"].tolist() == ["001", "002", "010"]


def test_a_submission_of_columns_is_scored_in_their_order_and_not_in_that_of_the_classes() -> None:
    words = Target("ordinal", ["none", "mild", "severe"])
    table = pd.DataFrame({"Id": list("abcd"), "mild": "0", "none": "0", "severe": "0", "unheard": "0"})
    judge = metrics.of("qwk", words)
    given = table.assign(none=["1", "0", "0", "0"], mild=["0", "1", "1", "0"], severe=["0", "0", "0", "1"])
    solution = table.assign(none=["1", "0", "1", "0"], mild=["0", "1", "0", "0"], severe=["0", "0", "0", "1"])
    known = table.columns.drop("unheard")
    shape = form(table[known], words, judge, "columns")
    expected = cohen_kappa_score([0, 1, 0, 2], [0, 1, 1, 2], weights="quadratic")
    assert scoring.score(given[known], solution[known], words, shape, judge)["qwk"] == pytest.approx(expected)
    gap = Target("ordinal", ["0", "2", "10"])
    rename = dict(zip(("none", "mild", "severe", "unheard"), ("g_0", "g_2", "g_10", "g_5"), strict=True))
    judge, shape = metrics.of("qwk", gap), form(table.rename(columns=rename), gap, metrics.of("qwk", gap), "columns")
    found = scoring.score(given.rename(columns=rename), solution.rename(columns=rename), gap, shape, judge)["qwk"]
    expected = cohen_kappa_score([0, 2, 0, 10], [0, 2, 2, 10], weights="quadratic", labels=range(11))
    assert found == pytest.approx(expected)
    positive = Target("binary", ["good", "bad"])
    wide = pd.DataFrame({"Id": list("ab"), "bad": ["1", "1"], "good": ["0", "0"]})
    judge, true = metrics.of("f1", positive), wide.assign(bad=["1", "0"], good=["0", "1"])
    assert scoring.score(wide, true, positive, form(wide, positive, judge, "columns"), judge)["f1"] == pytest.approx(
        2 / 3
    )


def test_a_grade_that_is_an_unknown_word_gets_a_place() -> None:
    words = Target("ordinal", ["none", "mild", "severe"])
    table, judge = sample(*["none"] * 3), metrics.of("qwk", words)
    with pytest.raises(SubmissionError, match="the grade 'moderate' is none of none, mild, severe"):
        scoring.score(table, sample("none", "moderate", "mild"), words, form(table, words, judge, "label"), judge)


def test_grades_with_a_gap_or_unknown_to_the_training_set_are_scored_by_their_place() -> None:
    table, given = sample(*"000000", ids="abcdef"), sample(*"012441", ids="abcdef")
    for true, task in product(("012421", "012431"), ("ordinal", "multiclass")):
        target = Target(task, ["0", "1", "2", "4"])
        judge = metrics.of("qwk", target)
        found = scoring.score(given, sample(*true, ids="abcdef"), target, form(table, target, judge, "label"), judge)
        expected = cohen_kappa_score(list(map(int, true)), [0, 1, 2, 4, 4, 1], weights="quadratic", labels=range(5))
        assert found["qwk"] == pytest.approx(expected)


def test_a_row_that_no_label_applies_to_gets_one_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    rule = Rule("thresholds", [0.75, 0.75, 0.75])
    with caplog.at_level("WARNING", "goulot"):
        filled(sample("a b", "c", "b"), FLAGS, p=P3, metric="f1_micro", rule=rule)
    assert "2 of 3 rows have no label by the rule" in caplog.text


def test_labels_or_grades_are_not_those_that_were_decided() -> None:
    assert filled(sample(*["Maize"] * 3), PLANTS, p=P3)["target"].tolist() == [
        "Maize",
        "Sugar beet",
        "Loose Silky-bent",
    ]
    cuts = Rule("cuts", [0.2, 1.2])
    assert filled(sample(*"000"), GRADES, p=P3, rule=cuts)["target"].tolist() == ["1", "1", "2"]
    threshold = Rule("weights", [1.0, 9.5])
    assert filled(sample(*["good"] * 3), metric="f1", rule=threshold)["target"].tolist() == ["good"] * 3


def test_the_likeliest_labels_are_not_in_the_sample_s_number_and_separator() -> None:
    pair = filled(sample(*["Maize;Sugar beet"] * 3), PLANTS, p=P3)["target"].tolist()
    assert pair == ["Maize;Sugar beet", "Sugar beet;Maize", "Loose Silky-bent;Maize"]
    spaced = filled(sample(*["Loose Silky-bent Maize Sugar beet"] * 3), PLANTS, p=P3)["target"].tolist()
    assert spaced[1] == "Sugar beet Maize Loose Silky-bent"
    by_metric = filled(sample(*"aaa"), Target("multiclass", ["a", "b", "c"]), p=P3, metric="map@2")
    assert by_metric["target"].tolist() == ["a b", "b a", "c a"]


def test_a_class_without_training_images_is_lost_or_a_row_does_not_sum_to_1() -> None:
    wide = pd.DataFrame({"Id": list("312"), **dict.fromkeys(["x", "good", "y", "bad"], "0.1")})
    done = filled(wide)
    assert done.columns.tolist() == ["Id", "x", "good", "y", "bad"]
    numbers = done.iloc[:, 1:].to_numpy(dtype=float)
    assert (numbers > 0).all()
    assert np.allclose(numbers.sum(axis=1), 1, atol=1e-12)
    assert numbers[1] == pytest.approx([0, 0.8, 0, 0.2], abs=1e-5)
    flags = filled(pd.DataFrame({"Id": list("312"), "c": "0", "z": "0", "a": "0", "b": "0"}), FLAGS, p=P3)
    assert flags.iloc[1].tolist() == ["1", 0.1, 0, 0.2, 0.7]


def test_labels_that_apply_are_not_those_above_their_thresholds() -> None:
    rule = Rule("thresholds", [0.25, 0.05, 0.9])
    assert filled(sample("a b", "c", "a"), FLAGS, p=P3, rule=rule)["target"].tolist() == ["a b", "b", "a b"]
    flags = pd.DataFrame({"Id": list("312"), "c": "0", "a": "0", "b": "0"})
    assert filled(flags, FLAGS, p=P3, metric="f1_macro", rule=rule).iloc[0].tolist() == ["3", 0, 1, 1]
    none = Rule("thresholds", [0.95] * 3)
    assert filled(sample("a b", "c", "a"), FLAGS, p=P3, rule=none)["target"].tolist() == ["a", "b", "c"]
    assert filled(sample("a b", "", "a"), FLAGS, p=P3, rule=none)["target"].tolist() == ["", "", ""]


def test_columns_named_by_the_front_of_the_numbers_are_unknown() -> None:
    wide = pd.DataFrame({"Id": list("312"), "X11": "0", "X4": "0"})
    done = filled(wide, Target("regression", ["X4_mean", "X11_mean"]), p=P)
    assert done[["X4", "X11"]].to_numpy(dtype=float).tolist() == P[[2, 0, 1]].tolist()


def test_numbers_go_to_other_columns() -> None:
    done = filled(pd.DataFrame({"Id": list("312"), "y": "0", "x": "0"}), Target("regression", ["x", "y"]), p=P * 100)
    assert done.to_numpy().tolist() == [["3", 50, 50], ["1", 80, 20], ["2", 10, 90]]
    alone = filled(sample(*"000"), Target("regression", ["score"]), p=P[:, :1])
    assert alone["target"].tolist() == [0.5, 0.2, 0.9]


def test_a_suffix_on_one_side_alone_hides_an_id_or_one_that_tells_ids_apart_is_lost() -> None:
    given = ["1", "2", "3.5"]
    table = sample().assign(Id=["3.5.jpg", "1.jpg", "2.JPG"])
    assert filled(table, ids=given)["target"].tolist() == [0.5, 0.8, 0.1]
    assert filled(sample(), ids=["1.png", "2.png", "3.png"])["target"].tolist() == [0.5, 0.8, 0.1]
    with pytest.raises(SubmissionError, match=r"3 ids of sample_submission\.csv have no prediction"):
        filled(sample().assign(Id=["1.jpg", "1.png", "2.jpg"]), ids=given)


@pytest.mark.parametrize(
    ("wanted", "given", "p", "words"),
    [
        ("3124", "123", P, "1 ids of sample_submission.csv have no prediction, first '4'"),
        ("31", "123", P, "1 predictions are for ids that sample_submission.csv lacks, first '2'"),
        ("3122", "123", P, "id '2' occurs twice in sample_submission.csv"),
        ("312", "1231", P[[0, 1, 2, 0]], "id '1' occurs twice in the predictions"),
        ("312", "123", np.where(P == 0.1, np.nan, P), "the prediction for id '2' is not finite"),
        ("312", "123", np.where(P == 0.8, np.inf, P), "the prediction for id '1' is not finite"),
    ],
)
def test_ids_or_values_that_do_not_fit_are_written(wanted: str, given: str, p: np.ndarray, words: str) -> None:
    with pytest.raises(SubmissionError, match=words):
        filled(sample(ids=wanted), ids=given, p=p)


@pytest.mark.parametrize(
    ("table", "target", "kind"),
    [
        (sample(), CLASSES, "columns"), (sample(), CLASSES, "list"), (sample(), CLASSES, "number"),
        (sample(), FLAGS, "label"), (sample(), PLANTS, "probability"),
        (pd.DataFrame({"Id": list("312"), "x": "0", "y": "0"}), CLASSES, "label"),
        (pd.DataFrame({"Id": list("312"), "x": "0", "y": "0"}), Target("regression", ["x", "z"]), "number"),
    ],
)  # fmt: skip
def test_a_form_that_the_sample_cannot_hold_gives_a_traceback(table: pd.DataFrame, target: Target, kind: Kind) -> None:
    with pytest.raises(SubmissionError, match=f"submit.format is {kind}"):
        form(table, target, LOG_LOSS, kind)


FAULTS = {
    "columns": (["Id,label", "3,0.5"], ["line 1: the columns are ['Id', 'label'], not ['Id', 'target']"]),
    "order": (["Id,target", "1,0.5", "3,0.5", "2,0.5"], ["line 2: id '1' stands where sample_submission.csv has '3'"]),
    "missing": (["Id,target", "3,0.5", "1,0.5"], ["id '2' of sample_submission.csv is missing"]),
    "unknown and doubled": (
        ["Id,target", "3,0.5", "1,0.5", "1,0.5", "9,0.5", "2,0.5"],
        ["line 4: id '1' occurs twice, first in line 3", "line 5: id '9' is not in sample_submission.csv"],
    ),
    "cells": (
        ["Id,target", "3,", "1,nan", "2,1.5", "2"],
        ["line 5: 1 cells, not 2", "line 2 (id '3'): target is '', not a finite number",
         "line 3 (id '1'): target is 'nan', not a finite number",
         "line 4 (id '2'): target is 1.5, not a probability between 0 and 1"],
    ),
    "empty": ([], ["line 1: the columns are [], not ['Id', 'target']"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_not_named_with_its_row(case: str) -> None:
    lines, expected = FAULTS[case]
    shape = form(sample(), CLASSES, LOG_LOSS, "probability")
    assert faults.find(faults.parse("\n".join(lines)), sample(), CLASSES, shape) == expected


def test_rows_that_do_not_sum_to_1_or_unknown_labels_pass() -> None:
    wide = pd.DataFrame({"Id": ["1"], "good": ["0"], "bad": ["0"]})
    shape = form(wide, CLASSES, LOG_LOSS, "columns")
    assert faults.find([["Id", "good", "bad"], ["1", "0.5", "0.6"]], wide, CLASSES, shape) == [
        "line 2 (id '1'): the probabilities sum to 1.100000, not 1"
    ]
    table = sample(*["Sugar beet Maize"] * 3)
    shape = form(table, PLANTS, LOG_LOSS, "top")
    rows = [["Id", "target"], ["3", "Maize Maize"], ["1", "Beet"], ["2", "Maize Sugar beet Loose Silky-bent"]]
    assert faults.find(rows, table, PLANTS, shape) == [
        "line 2 (id '3'): target holds a label twice",
        "line 3 (id '1'): target is 'Beet', which is no known label",
        "line 4 (id '2'): target holds 3 labels, more than 2",
    ]


def _scored(table: pd.DataFrame, truth: list[object], target: Target, p: np.ndarray, metric: str) -> dict[str, float]:
    done = filled(table, target, p=p, metric=metric).astype(str)
    solution = table.assign(**dict(zip(table.columns[1:], zip(*truth, strict=True), strict=True))).astype(str)
    judge = metrics.of(metric, target)
    shape = form(table, target, judge, detect(table, target, judge))
    return scoring.score(done, solution.assign(Usage="Public").iloc[::-1], target, shape, judge)


def test_a_score_is_not_that_of_the_solution() -> None:
    scores = _scored(sample(), [(0,), (1,), (0,)], CLASSES, P, "log_loss")
    assert scores["log_loss"] == pytest.approx(-np.log([0.5, 0.8, 0.9]).mean())
    assert scores["accuracy"] == 1
    names = _scored(sample(), [("bad",), ("good",), ("bad",)], CLASSES, P, "log_loss")
    assert names == scores
    plants = sample(*["Maize"] * 3)
    assert _scored(plants, [("Maize",), ("Maize",), ("unheard",)], PLANTS, P3, "f1_micro")["f1_micro"] == pytest.approx(
        1 / 3
    )
    ranked = _scored(plants, [("Maize",), ("Maize",), ("unheard",)], PLANTS, P3, "map@2")
    assert ranked["map@2"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert _scored(sample("a b", "c", "a"), [("a",), ("b c",), ("c",)], FLAGS, P3, "f1_micro")[
        "f1_micro"
    ] == pytest.approx(6 / 7)
    wide = pd.DataFrame({"Id": list("312"), "good": "0", "bad": "0"})
    columns = _scored(wide, [(0, 1), (1, 0), (0, 1)], CLASSES, P, "log_loss")
    assert columns["log_loss"] == scores["log_loss"]
    grades = _scored(sample(*"000"), [(0,), (1,), (1,)], GRADES, P3, "qwk")
    assert grades["qwk"] == 1
    number = _scored(sample(*"000"), [(1.5,), (0.2,), (0.9,)], Target("regression", ["x"]), P[:, :1], "rmse")
    assert number["mae"] == pytest.approx(1 / 3)


def test_a_solution_for_other_ids_is_taken() -> None:
    shape = form(sample(), CLASSES, LOG_LOSS, "probability")
    with pytest.raises(SubmissionError, match="not for the submission's ids: '2'"):
        scoring.score(sample(), sample(ids="314"), CLASSES, shape, LOG_LOSS)
    with pytest.raises(SubmissionError, match="no column 'target'"):
        scoring.score(sample(), sample(column="y"), CLASSES, shape, LOG_LOSS)


def test_a_sample_that_is_none_gives_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="is missing"):
        read_sample(tmp_path / "sample_submission.csv")
    (tmp_path / "sample_submission.csv").write_text("id\n1\n")
    with pytest.raises(SubmissionError, match="at least one target"):
        read_sample(tmp_path / "sample_submission.csv")


def test_an_empty_sample_gives_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "sample_submission.csv").write_bytes(b"")
    with pytest.raises(SubmissionError):
        read_sample(tmp_path / "sample_submission.csv")


@pytest.mark.parametrize("classes", [tiny.CLASSES[:2], tiny.CLASSES])
def test_a_competition_does_not_reach_its_submission_and_report(
    classes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    source = tiny.make(tmp_path / "source", classes=classes)
    workspace = Workspace(tmp_path, source, tiny.params(source))
    workspace.set("learn.learners", {"logistic": {"kind": "logistic"}})
    monkeypatch.chdir(tmp_path)
    stages = ["fetch", "ingest", "augment", "extract tiny", "audit", "split", "rank", "learn logistic"]
    workspace.run(*stages, "blend", "review", "submit", "report")
    wanted = pd.read_csv(source / "sample_submission.csv")
    written = pd.read_csv(layout.SUBMISSION)
    assert written["id"].tolist() == wanted["id"].tolist()
    assert set(written["label"]) <= set(classes)
    assert layout.REPORT_PAGE.read_text().count("<table") > 3
    blended = read_table(layout.BLEND_TEST)
    write_table(layout.BLEND_TEST, blended.iloc[1:])
    assert "1 ids of sample_submission.csv have no prediction" in refusal("submit")
    assert not layout.SUBMISSION.exists()


MISSING = {
    "binary": ({"label": "0.5"}, [0.5]),
    "multilabel": ({"cracked": "0", "spotted": "0"}, [0.5, 0.5]),
    "regression": ({"minus": "0", "size": "1"}, None),
}


@pytest.mark.parametrize("task", MISSING)
def test_a_test_image_that_cannot_be_used_is_filled_unasked_or_goes_unnamed(
    task: Task, ready: Workspace, refusal: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    columns, prior = MISSING[task]
    target = tiny.retarget(task)
    manifest = read_table(layout.MANIFEST)
    y = target.truth(manifest[manifest["split"] == "train"])
    rows = manifest[manifest["split"] == "test"]
    write_table(layout.SAMPLE_SUBMISSION, pd.DataFrame({"id": rows["id"], **columns}))
    lost = rows.iloc[3]
    write_table(layout.MANIFEST, manifest[manifest["image_id"] != lost["image_id"]])
    aside = pd.DataFrame([{**lost[["image_id", "split", "id", "file"]], "reason": "empty file"}])
    write_table(layout.QUARANTINE, aside)
    p = pd.DataFrame(np.full((19, 2), 0.5), columns=target.outputs)
    write_table(layout.BLEND_TEST, pd.concat([rows[["image_id"]].drop(lost.name).reset_index(drop=True), p], axis=1))
    metric = metrics.of("auto", target)
    write_json(layout.BLEND_RULE, {"metric": metric.name, **asdict(decisions.plain(metric, target))})
    line = refusal("submit")
    assert f"1 test image(s) could not be used and have no prediction: {lost['file']} (empty file); mend them" in line
    assert not layout.SUBMISSION.exists()
    ready.set("submit.missing", "prior")
    ready.run("submit")
    written = pd.read_csv(layout.SUBMISSION).set_index("id").loc[lost["id"]]
    expected = dict(zip(target.names, y.mean(axis=0), strict=True)) if task == "regression" else prior
    assert written.to_numpy().tolist() == pytest.approx([expected[c] for c in columns] if prior is None else prior)
    assert read_json(layout.metrics(layout.SUBMIT)) == {"rows": 20, "filled_by_prior": 1}
    assert "1 of them have no usable image" in caplog.text


def test_without_a_test_set_the_pipeline_does_not_reach_its_report(
    tmp_path: Path, competition: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(competition / "test")
    (competition / "test.csv").unlink()
    (competition / "sample_submission.csv").unlink()
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path, competition, tiny.params(competition))
    workspace.write()
    said = "\n".join(init.run(f"path:{competition}", given=Given(no_test=True)))
    assert "0 test images; submit has nothing to do" in said
    workspace.set("ingest.test", None)
    stages = [
        "fetch",
        "ingest",
        "augment",
        "extract tiny",
        "audit",
        "split",
        "rank",
        "learn logistic",
        "learn lightgbm",
    ]
    workspace.run(*stages, "blend", "review", "submit", "report")
    assert "there is nothing to submit: ingest.test is null" in caplog.text
    assert not layout.SUBMISSION.exists()
    assert read_json(layout.metrics(layout.SUBMIT))["rows"] == 0
    assert read_json(layout.metrics(layout.BLEND))["blend"]["roc_auc"] > 0.5
    assert "There is no test set" in layout.REPORT_PAGE.read_text()


NUMBER = Target("regression", ["x"])
UNFIT = {
    "doubled id": (sample(ids="3122"), sample(ids="312"), CLASSES, "log_loss", "id '2' occurs twice in the solution"),
    "truth that is nan": (sample("nan", "1", "2"), sample("1", "1", "2"), NUMBER, "rmse", "no finite number: 'nan'"),
    "prediction that is nan": (sample("0", "1", "0"), sample("0.5", "inf", "1"), NUMBER, "rmse", "number: 'inf'"),
    "empty label": (
        sample("good", "", "bad"),
        sample("good", "bad", "bad"),
        CLASSES,
        "accuracy",
        "no label for id '1'",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_solution_or_submission_that_is_no_truth_is_scored_or_gives_a_traceback(case: str) -> None:
    solution, given, target, name, words = UNFIT[case]
    metric = metrics.find(name)
    shape = form(given, target, metric, detect(given, target, metric))
    with pytest.raises(SubmissionError, match=words):
        scoring.score(given, solution, target, shape, metric)


def test_semicolons_are_not_named_as_what_is_wrong(tmp_path: Path) -> None:
    shape = form(sample(), CLASSES, LOG_LOSS, "probability")
    found = faults.find(faults.parse("Id;target\n3;0.5\n"), sample(), CLASSES, shape)
    assert found == ["line 1: the columns are ['Id;target'], not ['Id', 'target']; part them by ',', not ';'"]
    (tmp_path / "s.csv").write_text("Id;target\n3;0.5\n")
    with pytest.raises(SubmissionError, match="seem to be parted by ';', not by commas"):
        read_sample(tmp_path / "s.csv")
