"""Every kind of target through the real stages: from the manifest to a submission that fits its sample."""

import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from goulot import cli, crossfit, features, layout, ledger
from goulot.artifacts import read_json, read_table, write_table
from goulot.learners import find
from goulot.targets import Task
from tests import tiny
from tests.tiny import Workspace

LEARNERS = {
    "logistic": {"kind": "logistic", "C": 0.1},
    "mlp": {"kind": "mlp", "hidden": 32, "members": 1, "epochs": 20, "batch": 32, "learning_rate": 0.01},
}
# A sample's target columns and a metric; what is true of the submission, and a score that chance does not reach.
CASES = {
    "binary": ({"label": "0.5"}, "log_loss", lambda t: t["label"].between(0, 1).all(), -0.5),
    "multiclass": (
        {"label": "good cracked"},
        "map@5",
        lambda t: (t["label"].str.replace("odd one", "odd").str.count(" ") == 1).all(),
        0.8,
    ),
    "ordinal": ({"grade": "0"}, "qwk", lambda t: set(t["grade"]) <= {0, 1, 2, 3}, 0.7),
    "multilabel": (
        {"labels": "cracked spotted"},
        "f1_micro",
        lambda t: t["labels"].str.split().map(len).max() == 2,
        0.8,
    ),
    "regression": (
        {"minus": "0", "size": "1"},
        "rmse",
        lambda t: (t["minus"] < 0).all() and (t["size"] > 9).all(),
        -5.0,
    ),
}


def _sample(columns: dict[str, str]) -> list[str]:
    ids = read_table(layout.MANIFEST).query("split == 'test'")["id"].to_list()[::-1]
    write_table(layout.SAMPLE_SUBMISSION, pd.DataFrame({"Id": ids, **columns}))
    return ids


@pytest.mark.parametrize("task", [pytest.param(t, marks=pytest.mark.slow if t == "multilabel" else ()) for t in CASES])
def test_a_task_does_not_reach_a_submission_and_a_report(
    task: Task, ready: Workspace, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, metric, fits, least = CASES[task]
    tiny.retarget(task)
    ids = _sample(columns)
    ready.params["learn"]["learners"] = LEARNERS
    ready.set("blend.metric", metric)
    stages = ["extract tiny", "audit", "split", "rank", "learn logistic", "learn mlp", "blend", "review", "submit"]
    ready.set("blend", {**ready.params["blend"], "methods": ["greedy", "logistic", "lightgbm"]})
    ready.run(*stages, "report")
    score = pd.read_csv(layout.LEADERBOARD).set_index("learner").loc["blend", metric]
    assert (score if least > 0 else -score) > least
    written = pd.read_csv(layout.SUBMISSION)
    assert written.columns.tolist() == ["Id", *columns]
    assert written["Id"].tolist() == ids
    assert fits(written), written
    assert {"given", "suggested"} < set(pd.read_csv(layout.DOUBTS).columns)
    page = layout.REPORT_PAGE.read_text()
    assert page.count("<table") > 3
    assert page.count("data:image/jpeg") >= 3
    assert page.count("<svg") >= 5
    monkeypatch.setattr(sys, "argv", ["goulot", "check-submission"])
    cli.app(standalone_mode=False)
    write_table(layout.SUBMISSION, written.iloc[1:])
    assert "would be refused: 1 fault" in _failed(refusal, monkeypatch)


def _failed(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said on standard error; the faults themselves go to standard output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.echo", lambda line, err=False: sys.stderr.write(line + "\n") if err else None)
        return refusal("check-submission")


def test_a_class_that_a_fold_cannot_learn_gets_a_probability_or_stops_the_run(ready: Workspace) -> None:
    target = tiny.retarget("multiclass")
    ready.run("split", "rank", "learn logistic")
    known = ledger.read().truth.train
    odd = target.names.index("odd one")
    fold = known.fold[known.y == odd]
    oof = read_table(layout.learned("logistic") / "oof.parquet")
    p = oof[target.outputs].to_numpy()
    assert (p[known.fold == fold, odd] == 0).all()
    assert (p[known.fold != fold, odd] > 0).all()
    assert np.allclose(p.sum(axis=1), 1)


def test_a_number_is_predicted_beyond_those_seen(ready: Workspace) -> None:
    tiny.retarget("regression")
    ready.run("split", "rank")
    rows = ledger.read()
    wild = find("x", {"kind": "logistic", "C": 1e6}).make
    choice = features.read_choice(layout.CHOICE)
    X = features.Features(rows.rows)
    made = crossfit.cross_fit(
        wild, rows, lambda fold: X.read(choice[str(fold)]), folds=rows.folds, seed=0, threads=1
    )  # fmt: skip
    y = rows.truth.train.y
    for p in (made.oof, made.test):
        assert (p >= y.min(axis=0)).all()
        assert (p <= y.max(axis=0)).all()


def test_extra_columns_of_the_table_change_nothing_or_their_test_rows_are_learned_from(ready: Workspace) -> None:
    manifest = read_table(layout.MANIFEST)
    rng = np.random.default_rng(0)
    labels = rng.permutation(manifest["label"].where(manifest["label"].notna(), "good"))
    manifest = manifest.assign(label=np.where(manifest["split"] == "train", labels, None))
    write_table(layout.MANIFEST, manifest)
    number = pd.Series(labels == "cracked", dtype=float) + rng.normal(0, 0.2, len(manifest))
    kind = pd.Series(np.where(rng.random(len(manifest)) < 0.5, "sick", labels), dtype=object)
    table = pd.DataFrame(
        {"image_id": manifest["image_id"], "number": number.where(rng.random(len(number)) > 0.1), "kind": kind}
    )
    boosted = {"kind": "lightgbm", "trees": 30, "learning_rate": 0.3, "components": 8}
    others = {"logistic": {"kind": "logistic"}, "svm": {"kind": "svm", "components": 8}}
    ready.params["learn"]["learners"] = {**others, "lightgbm": boosted}
    ready.write()
    ready.run("split", "rank", "learn logistic", "learn lightgbm", "learn svm")
    before = {
        name: read_json(layout.metrics(layout.learned(name)))["roc_auc"] for name in ("logistic", "lightgbm", "svm")
    }
    write_table(layout.EXTRA, table.sample(frac=1, random_state=0))
    ready.run("learn logistic", "learn lightgbm", "learn svm")
    after = {name: read_json(layout.metrics(layout.learned(name)))["roc_auc"] for name in before}
    assert after["svm"] == before["svm"]
    assert min(after["logistic"], after["lightgbm"]) > 0.85 > max(before["logistic"], before["lightgbm"]), (
        before,
        after,
    )
    held = read_table(layout.learned("logistic") / "oof.parquet")
    only_test = table["image_id"].str.startswith("test/")
    write_table(
        layout.EXTRA, table.assign(number=number.where(~only_test, 1e6), kind=kind.where(~only_test, "unheard"))
    )
    ready.run("learn logistic")
    again = read_table(layout.learned("logistic") / "oof.parquet")
    clean = table.assign(number=number, kind=kind)
    write_table(layout.EXTRA, clean)
    ready.run("learn logistic")
    assert again.equals(read_table(layout.learned("logistic") / "oof.parquet"))
    assert not again.equals(held)
