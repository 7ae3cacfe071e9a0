"""The bundled competition: a fair split, a download's layout, and answers that no stage can reach."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import roc_auc_score

from goulot import layout
from goulot.artifacts import read_table
from goulot.commands import score
from goulot.samples import elpv, elpv_modules
from tests import tiny

LIMIT = 200
WHOLE = """
import json, sys
from goulot import cli
opened = {}
stage = None
def note(event, arguments):
    if event == "open" and "elpv_dataset" in str(arguments[0]) and str(arguments[0]).endswith((".csv", ".png")):
        opened.setdefault(stage, set()).add(str(arguments[0]).rpartition("/")[2][-4:])
sys.addaudithook(note)
for stage in sys.argv[1:]:
    cli.run_stage(*stage.split())
print(json.dumps({stage: sorted(found) for stage, found in opened.items()}))
"""
STAGES = ["fetch", "ingest", "augment", "extract tiny", "audit", "split", "rank", "learn logistic", "blend",
          "review", "submit", "report"]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every stage on a cut of the sample, and in opened.json which stage opened the package's files."""
    root = tmp_path_factory.mktemp("sample")
    params = tiny.params(root)
    params["fetch"] = {"source": "sample:elpv", "limit": LIMIT}
    params["learn"]["learners"] = {"logistic": {"kind": "logistic"}}
    with (root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    command = [sys.executable, "-c", WHOLE, *STAGES]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    (root / "opened.json").write_text(result.stdout.splitlines()[-1])
    return root


@pytest.fixture(scope="module")
def answers() -> pd.Series:
    """The test set's labels by id."""
    return elpv.answers(seed=0, limit=LIMIT).set_index("id")["label"]


def test_the_split_is_not_three_quarters_in_each_stratum() -> None:
    cells = elpv.partition(seed=0, limit=None)
    assert len(cells) == 2624
    assert cells["id"].is_unique
    strata = cells.groupby(["probability", "type"])["split"].value_counts().unstack()
    assert np.allclose(strata["test"] / strata.sum(axis=1), 0.25, atol=0.011)
    assert (cells["split"] == "test").mean() == pytest.approx(0.25, abs=0.002)


def test_a_seed_gives_two_splits_or_two_seeds_one() -> None:
    one, again, other = (elpv.partition(seed=seed, limit=None)["split"] for seed in (0, 0, 1))
    assert one.equals(again)
    assert not one.equals(other)


def test_a_limit_changes_the_shares_of_the_strata() -> None:
    few, all_cells = elpv.partition(seed=0, limit=LIMIT), elpv.partition(seed=0, limit=None)
    assert len(few) == pytest.approx(LIMIT, abs=8)
    shares = [c["probability"].round(2).value_counts(normalize=True).sort_index() for c in (few, all_cells)]
    assert shares[0].to_numpy() == pytest.approx(shares[1].to_numpy(), abs=0.02)
    assert (few["split"] == "test").mean() == pytest.approx(0.25, abs=0.03)


def test_the_files_are_not_those_of_a_download(finished: Path) -> None:
    raw = finished / layout.RAW
    tables = {name: pd.read_csv(raw / f"{name}.csv") for name in ("train", "test", "sample_submission")}
    assert {name: table.columns.tolist() for name, table in tables.items()} == {
        "train": ["id", "type", "label"], "test": ["id", "type"], "sample_submission": ["id", "label"],
    }  # fmt: skip
    assert set(tables["train"]["label"]) == {0, 1}
    assert tables["sample_submission"]["label"].unique().tolist() == [0.5]
    assert tables["sample_submission"]["id"].tolist() == tables["test"]["id"].tolist()
    for name in ("train", "test"):
        assert {path.stem for path in (raw / name).iterdir()} == set(tables[name]["id"])
    assert not set(tables["train"]["id"]) & set(tables["test"]["id"])
    assert {path.name for path in raw.iterdir()} == {"train", "test", *(f"{name}.csv" for name in tables)}


def test_a_label_is_not_a_defect_more_likely_than_not(finished: Path) -> None:
    cells = elpv.partition(seed=0, limit=LIMIT).set_index("id")
    labels = pd.read_csv(finished / layout.RAW / "train.csv").set_index("id")["label"]
    assert (labels == (cells.loc[labels.index, "probability"] >= 0.5)).all()


def test_a_stage_reads_the_answers(finished: Path) -> None:
    opened = json.loads((finished / "opened.json").read_text())
    assert opened == {"fetch": [".csv", ".png"]}


def test_a_module_is_in_both_parts_or_of_two_types() -> None:
    cells = elpv_modules.partition(seed=0, limit=None)
    modules = cells.groupby("group")
    assert len(modules) == 44
    assert (modules["split"].nunique() == 1).all()
    assert (modules["type"].nunique() == 1).all()
    assert 0.2 < (cells["split"] == "test").mean() < 0.3
    defects = (cells["probability"] >= elpv.THRESHOLD).groupby(cells["split"]).mean()
    assert defects["test"] == pytest.approx(defects["train"], abs=0.08)
    other = elpv_modules.partition(seed=1, limit=300)
    assert len(other) == pytest.approx(300, abs=20)
    assert set(other["id"][other["split"] == "test"]) - set(cells["id"][cells["split"] == "test"])


def test_the_modules_are_not_groups_or_a_submission_cannot_be_scored(
    workspace: tiny.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.params["fetch"] = {"source": "sample:elpv-modules", "limit": LIMIT}
    workspace.set("ingest.train.group", "group")
    workspace.run("fetch", "ingest")
    assert read_table(layout.MANIFEST).query("split == 'train'")["group"].nunique() == 34
    assert "group" not in pd.read_csv(layout.RAW / "test.csv")
    layout.SUBMIT.mkdir()
    elpv_modules.answers(seed=0, limit=LIMIT).to_csv(layout.SUBMISSION, index=False)
    score.run(layout.SUBMISSION, None)
    assert "sample:elpv-modules" in (said := capsys.readouterr().out)
    assert "1.0000" in said


def _tables(folder: Path) -> dict[Path, pd.DataFrame]:
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    return {path: readers[path.suffix](path) for path in folder.rglob("*") if path.suffix in readers}


def _truth(table: pd.DataFrame, answers: pd.Series) -> pd.DataFrame:
    """The table's rows of test images with their answers; a table of as many rows is taken to be in their order."""
    name = next((n for n in ("id", "image_id", "Id") if n in table), None)
    if name:
        plain = table[name].astype(str).str.removeprefix("test/")
        inside = table[plain.isin(answers.index)]
        return inside.assign(_answer=answers.loc[plain[inside.index]].to_numpy()).drop(columns=name)
    return table.assign(_answer=answers.to_numpy()) if len(table) == len(answers) else table.head(0).assign(_answer=0)


def reveals(column: pd.Series, answer: pd.Series) -> bool:
    """Whether few values, or a threshold, of the column tell the answers."""
    if 1 < column.nunique() <= len(column) // 4:
        return bool((answer.groupby(column, dropna=False).nunique() == 1).all())
    if pd.api.types.is_numeric_dtype(column) and column.notna().all() and answer.nunique() == 2:
        return bool(roc_auc_score(answer, column) in (0.0, 1.0))
    return False


def test_a_table_tells_the_answers(finished: Path, answers: pd.Series) -> None:
    tables = _tables(finished / layout.DATA)
    assert len(tables) > 12
    judged = 0
    for path, table in tables.items():
        rows = _truth(table, answers)
        for name in rows.columns.drop("_answer") if len(rows) else ():
            judged += 1
            assert not reveals(rows[name], rows["_answer"]), f"{path.name}: {name}"
    assert judged > 10


def test_the_search_for_answers_would_miss_them(answers: pd.Series) -> None:
    flipped = pd.DataFrame({"id": answers.index, "x": 1 - answers.to_numpy()})
    graded = pd.DataFrame(
        {"image_id": "test/" + answers.index, "x": answers.to_numpy() + np.random.default_rng(0).random(len(answers))}
    )
    for table, name in ((flipped, "x"), (graded, "x"), (flipped[["x"]], "x")):
        rows = _truth(table, answers)
        assert reveals(rows[name], rows["_answer"])
