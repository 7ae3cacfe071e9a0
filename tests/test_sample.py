"""The bundled sample: its split, and answers that no stage reads; submissions that would be refused."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from goulot import layout, submission
from goulot.errors import SubmissionError
from goulot.samples import elpv
from tests.conftest import ROOT
from tests.tiny import Workspace

CLASSES = ["0", "1"]
SAMPLE = pd.DataFrame({"id": ["b", "a"], "label": ["0.5", "0.5"]})
RIGHT = pd.DataFrame({"id": ["a", "b"], "0": [0.9, 0.2], "1": [0.1, 0.8]})

SPY = """
import sys
opened = []
stage = ""
sys.addaudithook(lambda event, args: opened.append(stage) if event == "open" and
                 "elpv_dataset" in str(args[0]) and str(args[0]).endswith("labels.csv") else None)
from goulot import cli
for stage in sys.argv[1:]:
    cli.run_stage(*stage.split())
print("\\n".join(opened))
"""


def test_the_split_is_not_stratified_or_moves() -> None:
    cells = elpv.partition(seed=0, limit=None)
    assert len(cells) == 2624
    shares = cells.assign(test=cells["split"] == "test").groupby(["probability", "type"])["test"].mean()
    assert (shares - 0.25).abs().max() < 0.02
    pd.testing.assert_frame_equal(cells, elpv.partition(seed=0, limit=None))
    assert (cells["split"] != elpv.partition(seed=1, limit=None)["split"]).any()


def test_a_stage_reads_the_answers_or_leaves_them_below_data(workspace: Workspace) -> None:
    workspace.set("fetch", {"source": "sample:elpv", "limit": 200})
    learners = [f"learn {name}" for name in workspace.params["learn"]["learners"]]
    stages = [
        "fetch",
        "ingest",
        "augment",
        "extract tiny",
        "audit",
        "split",
        "rank",
        *learners,
        "blend",
        "submit",
        "report",
    ]
    done = subprocess.run([sys.executable, "-c", SPY, *stages], capture_output=True, text=True, check=True)
    assert set(done.stdout.split("\n")) <= {"fetch", ""}
    assert "fetch" in done.stdout
    answers = elpv.answers(seed=0, limit=200).set_index("id")["label"]
    tables = [*layout.DATA.rglob("*.csv"), *layout.DATA.rglob("*.parquet")]
    assert len(tables) > 8
    for path in tables:
        table = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_parquet(path)
        for key in {"id", "image_id"} & set(table.columns):
            rows = table.assign(truth=table[key].astype(str).str.removeprefix("test/").map(answers))
            rows = rows.drop_duplicates(key).dropna(subset="truth")
            rows = rows[~rows[key].astype(str).str.startswith("train/")]
            for column in set(table.columns) - {key, "id", "image_id", "file", "sha256", "row", "shard"}:
                values = rows[column].astype(str)
                if len(rows) > 20 and 1 < values.nunique() <= 4:
                    assert rows.groupby(values)["truth"].nunique().max() > 1, f"{path}: {column}"


def test_a_submission_has_another_order_or_format() -> None:
    filled = submission.fill(SAMPLE, RIGHT, CLASSES, submission.detect(SAMPLE, CLASSES))
    assert filled.to_dict("list") == {"id": ["b", "a"], "label": [0.8, 0.1]}
    labels = SAMPLE.assign(label=["0", "1"])
    assert submission.fill(labels, RIGHT, CLASSES, submission.detect(labels, CLASSES))["label"].tolist() == ["1", "0"]
    columns = pd.DataFrame({"id": ["b", "a"], "1": "0", "0": "0"})
    filled = submission.fill(columns, RIGHT, CLASSES, submission.detect(columns, CLASSES))
    assert filled.to_dict("list") == {"id": ["b", "a"], "1": [0.8, 0.1], "0": [0.2, 0.9]}


WRONG = {
    "missing": (RIGHT[:1], "1 ids of sample_submission.csv have no prediction, first 'b'"),
    "doubled": (pd.concat([RIGHT, RIGHT[:1]]), "'a' occurs twice"),
    "unknown": (pd.concat([RIGHT, RIGHT[:1].assign(id="c")]), "sample_submission.csv lacks, first 'c'"),
    "not finite": (RIGHT.assign(**{"1": [np.nan, 0.8]}), "the prediction for id 'a' is not finite"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_submission_that_would_be_refused_is_written(case: str) -> None:
    predictions, words = WRONG[case]
    with pytest.raises(SubmissionError) as error:
        submission.fill(SAMPLE, predictions, CLASSES, "probability")
    assert words in str(error.value)


def test_a_planted_duplicate_across_train_and_test_is_missed(workspace: Workspace) -> None:
    folder = workspace.competition
    (folder / "test/test000.png").write_bytes((folder / "train/train000.png").read_bytes())
    workspace.run("fetch", "ingest", "audit")
    found = json.loads(layout.metrics(layout.AUDIT).read_text())
    assert found["pairs_of_equal_bytes"] == 1
    assert found["pairs_across_train_and_test"] == 1
    groups = pd.read_parquet(layout.GROUPS).set_index("image_id")["group"]
    assert groups["test/test000"] == groups["train/train000"]
    assert groups.nunique() == len(groups) - 1


def test_a_large_group_is_merged_unasked(workspace: Workspace) -> None:
    for merge, groups in ((False, 80), (True, 1)):
        workspace.set("audit", {"distance": 256, "merge_large": merge})
        workspace.run("fetch", "ingest", "audit")
        assert json.loads(layout.metrics(layout.AUDIT).read_text())["groups_doubted"] == 1
        assert pd.read_parquet(layout.GROUPS)["group"].nunique() == groups


def test_help_takes_half_a_second(child: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        assert "Cross-fit a learner" in child("-m", "goulot", "--help").stdout
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_an_isolated_copy_runs_the_installed_code(tmp_path: Path) -> None:
    own = tmp_path / "src/goulot"
    own.mkdir(parents=True)
    (own / "__init__.py").touch()
    (own / "__main__.py").write_text("print('its own')")
    env = {key: value for key, value in os.environ.items() if key != "GOULOT_STARTED"}
    env["PYTHONPATH"] = str(ROOT / "src")
    command = [sys.executable, "-c", "from goulot.__main__ import main; main()", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "its own\n"
