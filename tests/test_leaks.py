"""No leaks, through the stages and past them: from the ranking to the blend, and where networks are trained."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from goulot import blending, calibration, crossfit, layout, ledger, metrics
from goulot.artifacts import read_json, read_table, write_table
from goulot.finetuning import Tuner, Views
from goulot.learners import Context
from goulot.stages import blend
from goulot.stepping import Recipe
from goulot.targets import Target
from goulot.truth import Truth
from tests.test_finetune import QUICK, SHAPE, maker, tail
from tests.test_hygiene import Given, made_ledger
from tests.test_hygiene import maker as learner
from tests.tiny import Workspace

LEARNERS = {
    "linear": {"kind": "logistic", "views": "mean", "select": 0.5, "tune": {"C": [0.001, 0.1]}},
    "svm": {"kind": "svm", "components": 8},
}


def predicted(name: str) -> np.ndarray:
    return read_table(layout.learned(name) / "oof.parquet").drop(columns=["image_id", "fold"]).to_numpy()


def test_a_stage_s_predictions_of_a_fold_know_its_labels_or_the_test_images(
    ready: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "goulot")
    ready.params["learn"]["learners"] = LEARNERS
    ready.set("rank.max_channels", 100)
    stages = ("rank", *(f"learn {name}" for name in LEARNERS))
    ready.run(*stages)
    assert caplog.text.count("of the images without views") == len(LEARNERS)
    held = read_table(layout.learned("svm") / "oof.parquet")["fold"].to_numpy() == 0
    before, choice = {name: predicted(name) for name in LEARNERS}, read_json(layout.CHOICE)
    manifest, kept = read_table(layout.MANIFEST), read_table(layout.FOLDS).query("fold == 0")["image_id"]
    other = manifest["label"].map({"good": "cracked", "cracked": "good"})
    write_table(layout.MANIFEST, manifest.assign(label=manifest["label"].mask(manifest["image_id"].isin(kept), other)))
    ready.run(*stages)
    assert read_json(layout.CHOICE)["0"] == choice["0"]
    assert read_json(layout.CHOICE)["all"] != choice["all"]
    for name, p in before.items():
        assert np.array_equal(predicted(name)[held], p[held]), name
        assert not np.allclose(predicted(name)[~held], p[~held]), name
    write_table(layout.MANIFEST, manifest)
    rows = read_table(layout.features("tiny") / "rows.parquet")
    outside = rows["image_id"].str.startswith("test/").to_numpy()
    for path in layout.features("tiny").glob("*.npy"):
        np.save(path, np.where(outside[:, None], 9 * np.load(path) + 5, np.load(path)))
    ready.run(*stages)
    assert read_json(layout.CHOICE) == choice
    assert all(np.array_equal(predicted(name), p) for name, p in before.items())


def test_the_blend_changes_with_the_order_of_its_members_rows_or_from_run_to_run(
    ready: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "goulot")
    ready.set("blend", {"rounds": 5, "bags": 2, "threads": 1, "calibrate": "isotonic"})
    ready.run("rank", "learn logistic", "learn lightgbm", "blend")
    gap = read_json(layout.metrics(layout.BLEND))["optimism"]
    assert f"better by {gap:.4f}: its optimism" in caplog.text

    def written() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in layout.BLEND.iterdir()}

    before = written()
    ready.run("blend")
    assert written() == before
    for path in layout.LEARN.glob("*/*.parquet"):
        write_table(path, read_table(path).sample(frac=1, random_state=len(path.parent.name)))
    ready.run("blend")
    assert written() == before


def test_a_blend_that_looks_worse_where_it_was_chosen_is_called_flattered() -> None:
    loss, right = metrics.find("log_loss"), metrics.find("accuracy")
    assert blend._optimism(loss, 0.30, 0.25) == pytest.approx(0.05)
    assert blend._optimism(right, 0.90, 0.85) == pytest.approx(-0.05)
    assert blend._optimism(right, float("nan"), 0.85) is None


def noise(rows: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members that know nothing, float (4, rows, 2), the truth and folds."""
    rng = np.random.default_rng(0)
    return rng.dirichlet((1, 1), size=(4, rows)), rng.integers(0, 2, rows), np.arange(rows) % 4


BLENDS = [("greedy", "temperature"), ("greedy", "isotonic"), ("logistic", "isotonic"), ("lightgbm", "temperature")]


@pytest.mark.parametrize(("method", "calibrate"), BLENDS)
def test_a_blend_sees_what_only_a_fold_s_own_rows_tell_or_learns_from_noise(
    method: blending.Method, calibrate: calibration.Kind
) -> None:
    members, y, fold = noise()
    recipe = blending.Recipe(rounds=10, bags=2, threads=1, methods=[method], calibrate=calibrate)
    aim = blending.Aim(metrics.find("log_loss"), Target("binary", ["0", "1"]), recipe)
    first = blending.nested(members, y, fold, aim)
    assert first.score(aim.metric, y) > 0.66, "labels that mean nothing were told"
    leaking, planted = members.copy(), (fold == 1) & (np.arange(len(y)) % 8 < 4)
    leaking[2, planted] = np.eye(2)[y[planted]] * 0.98 + 0.01
    other = blending.nested(leaking, y, fold, aim)
    assert np.array_equal(other.members[1], first.members[1], equal_nan=True)
    beside = (fold == 1) & ~planted
    assert np.array_equal(other.oof[beside], first.oof[beside])
    assert not np.array_equal(other.oof[fold == 0], first.oof[fold == 0])


@pytest.mark.parametrize("calibrate", ["temperature", "isotonic"])
def test_a_blend_moves_with_its_rows_order_or_its_seed_means_nothing(calibrate: calibration.Kind) -> None:
    members, y, fold = noise()
    members = 0.8 * members + 0.2 * np.eye(2)[y]
    order = np.random.default_rng(1).permutation(len(y))

    def nested(rows: np.ndarray, *, bags: int, seed: int = 0, method: blending.Method = "greedy") -> np.ndarray:
        recipe = blending.Recipe(rounds=10, bags=bags, seed=seed, methods=[method], calibrate=calibrate)
        aim = blending.Aim(metrics.find("log_loss"), Target("binary", ["0", "1"]), recipe)
        return blending.nested(members[:, rows], y[rows], fold[rows], aim).oof

    same = np.arange(len(y))
    for method in ("greedy", "logistic"):
        found = nested(same, bags=0, method=method)
        assert np.allclose(nested(order, bags=0, method=method), found[order], atol=1e-5)
    assert nested(same, bags=3).tobytes() == nested(same, bags=3).tobytes() != nested(same, bags=3, seed=1).tobytes()


def test_cross_fitted_predictions_stand_with_other_images_when_the_rows_come_in_another_order() -> None:
    rng = np.random.default_rng(0)
    rows = made_ledger(rng, train=120, test=20)
    X = (rng.normal(size=(len(rows.rows), 24)) + rows.y[:, None] * 0.4).astype(np.float32)
    images, places = rng.permutation(len(rows.truth.images)), rng.permutation(len(rows.rows))
    images = np.r_[images[rows.truth.fold[images] >= 0], images[rows.truth.fold[images] < 0]]
    table = rows.rows.iloc[places].assign(image=np.argsort(images)[rows.rows["image"].to_numpy()[places]])
    known = Truth(rows.truth.images.iloc[images].reset_index(drop=True), rows.truth.y[images], rows.truth.target)
    moved = ledger.Ledger(table.reset_index(drop=True), known)

    def found(rows: ledger.Ledger, X: np.ndarray) -> list[np.ndarray]:
        make = learner("logistic", C=0.1)
        made = crossfit.cross_fit(make, rows, lambda _fold: X, folds=rows.folds, seed=0, threads=1)
        oof, test = crossfit.tables(rows, made)
        return [part.set_index("image_id").sort_index().to_numpy() for part in (oof, test)]

    for one, other in zip(found(rows, X), found(moved, X[places]), strict=True):
        assert np.allclose(one, other, atol=1e-3)


def test_what_views_add_is_told_of_others_or_changes_what_is_predicted() -> None:
    rng = np.random.default_rng(0)
    rows = made_ledger(rng, train=120, test=20, views=1)
    X = rng.normal(size=(len(rows.rows), 24)).astype(np.float32)
    table = pd.DataFrame({"number": rng.normal(size=len(X))})
    none, same, other = (
        crossfit.cross_fit(learner("logistic"), rows, lambda _fold: X, folds=rows.folds, seed=0, threads=1,
                           table=table, alone=alone)
        for alone in (None, lambda _fold: X, lambda _fold: -X)
    )  # fmt: skip
    assert none.alone is None
    assert np.array_equal(same.alone, none.oof)
    assert np.array_equal(other.oof, none.oof)
    assert not np.allclose(other.alone, none.oof, atol=1e-3)


def test_columns_of_the_table_are_read_by_what_a_fold_s_own_rows_hold() -> None:
    rng = np.random.default_rng(0)
    rows = made_ledger(rng, train=120, test=20)
    X = rng.normal(size=(len(rows.rows), 24)).astype(np.float32)
    count, held = len(rows.truth.fold), rows.truth.fold == 0
    number = np.where(rng.random(count) < 0.2, np.nan, rng.normal(size=count))
    plain = pd.DataFrame({"number": number, "kind": rng.choice(["a", "b"], count)})
    leaking = plain.assign(number=np.where(held, 1e6, number), kind=plain["kind"].where(~held, "only here"))
    one, other = (
        crossfit.cross_fit(learner("logistic"), rows, lambda _fold: X, folds=[0], seed=0, threads=1, table=table)
        for table in (plain, leaking)
    )
    assert one.test.tobytes() == other.test.tobytes()
    assert one.oof.tobytes() != other.oof.tobytes()


def test_a_machine_is_sure_of_what_a_copy_of_a_row_told_it() -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng)
    groups = rng.normal(size=(200, 24))
    X = (groups[rows.rows["group"]] + rng.normal(size=(len(rows.rows), 24)) * 0.05).astype(np.float32)
    made = crossfit.cross_fit(learner("svm"), rows, lambda _fold: X, folds=rows.folds, seed=0, threads=1)
    # Labels that mean nothing: a calibration that had seen a row's copies would trust the margins, and lose by it.
    assert log_loss(rows.truth.train.y, made.oof[:, 1]) < 0.75


class Seen(Given):
    """Maps as the pixels from which a whole network is trained."""

    def __getitem__(self, rows: np.ndarray) -> "Seen":
        return Seen(self.maps[rows])

    def decode(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.maps[rows])

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def trained(folder: Path) -> Callable[[Context], Tuner]:
    """Makes what trains the end and then the whole, which stand here in the same made-up network."""
    whole = {"epochs": 4, "batch": 32, "augment": "none", "mixup": 0.0, "learning_rate": 0.005}
    recipe, made = Recipe(**{**QUICK, "epochs": 2}, whole=whole), maker(folder)
    return lambda context: Tuner(
        recipe, tail(), context, device=torch.device("cpu"), dtype=torch.float32,
        checkpoints=made(context)._checkpoints, label="made-up", whole=tail(),
    )  # fmt: skip


def seen(X: np.ndarray, image: np.ndarray) -> Views:
    maps = X.astype(np.float32).reshape(len(X), *SHAPE)
    return Views(Given(maps), image, Seen(maps))


@pytest.mark.parametrize("make", [maker, trained])
def test_what_is_fine_tuned_for_a_fold_has_seen_its_features_or_told_shuffled_labels(
    make: Callable[[Path], Callable[[Context], Tuner]], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng)
    groups, image = rng.normal(size=(200, 24)), rows.rows["image"].to_numpy()
    plain = groups[rows.rows["group"]] + rng.normal(size=(len(rows.rows), 24)) * 0.05
    held = (rows.rows["fold"] == 0).to_numpy()
    leaking = np.where(held[:, None], plain + 5 * rows.y[:, None], plain)

    def found(name: str, X: np.ndarray, folds: list[int]) -> crossfit.Predictions:
        views = seen(X, image)
        return crossfit.cross_fit(make(tmp_path / name), rows, lambda _fold: views, folds=folds, seed=0, threads=1)

    one, again, other = found("a", plain, [0]), found("b", plain, [0]), found("c", leaking, [0])
    assert one.test.tobytes() == other.test.tobytes() == again.test.tobytes()
    assert one.oof.tobytes() == again.oof.tobytes() != other.oof.tobytes()
    every = found("d", plain, rows.folds)
    assert roc_auc_score(rows.truth.train.y, every.oof[:, 1]) == pytest.approx(0.5, abs=0.13)
    inside = (rows.rows["fold"] >= 0).to_numpy()
    X = seen(plain, image)[inside]
    fitted = make(tmp_path / "e")(Context(0, 1, rows.truth.target)).fit(X, rows.y[inside], image[inside])
    p, order = fitted.predict(X), rng.permutation(int(inside.sum()))
    assert roc_auc_score(rows.y[inside], p[:, 1]) > 0.7
    assert np.allclose(fitted.predict(X[order]), p[order], atol=1e-5)
