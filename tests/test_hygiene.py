"""No leaks: what predicts a row has seen neither it, nor its group, nor its views; and rows are joined by their ids."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Self

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from goulot import (
    blending,
    crossfit,
    decisions,
    features,
    fitting,
    folds,
    layout,
    ledger,
    metrics,
    ranking,
    selection,
    tuning,
)
from goulot.artifacts import read_json, read_table, write_table
from goulot.errors import ArtifactError, LedgerError, ParamsError
from goulot.learners import KINDS, Context, Factory, find
from goulot.recipes import Watch
from goulot.stages import learn
from goulot.targets import Target, Task
from goulot.truth import Truth
from tests.tiny import Workspace

SMALL = {
    "gru": {
        "backbone": "any",
        "tap": "s1",
        "hidden": 16,
        "members": 1,
        "epochs": 20,
        "batch": 32,
        "learning_rate": 0.02,
    },
    "lenet5": {"epochs": 6, "batch": 64, "learning_rate": 0.01},
    "lightgbm": {"trees": 20, "components": 8, "learning_rate": 0.2},
    "mlp": {"hidden": 32, "members": 1, "epochs": 30, "batch": 32, "learning_rate": 0.01, "dropout": 0.1},
}
WIDE = {"lightgbm": {"trees": 60, "components": 24}}  # all of made-up features that are equally wide
MAPS = {"gru": (6, 2, 2), "lenet5": (3, 2, 4)}  # how 24 made-up features stand in the map that a learner reads


def made_ledger(rng: np.random.Generator, *, train: int = 360, test: int = 40, views: int = 2) -> ledger.Ledger:
    """Images in pairs that are a group, labels that mean nothing, and a fold for each group."""
    count = train + test
    images = pd.DataFrame({
        "image_id": [f"i{n}" for n in rng.permutation(count)], "split": ["train"] * train + ["test"] * test,
        "y": np.repeat(rng.permutation(np.arange(count // 2) % 2), 2), "group": np.arange(count) // 2,
    }).assign(image=np.arange(count))  # fmt: skip
    inside = images["split"] == "train"
    fold = folds.deal(
        images["y"][inside].to_numpy(), images["group"][inside].to_numpy(), task="binary", folds=4, seed=0
    )
    y = images["y"].where(inside, -1).to_numpy()
    images = images.assign(fold=np.r_[fold, np.full(test, -1)], id=images["image_id"]).drop(columns="y")
    rows = pd.concat([images.assign(view=view) for view in range(views)], ignore_index=True)
    return ledger.Ledger(rows, Truth(images, y, Target("binary", ["0", "1"])))


class Given:
    """Whole maps that are at hand, as a learner is given them."""

    def __init__(self, maps: np.ndarray) -> None:
        self.maps, self.shape = maps, maps.shape[1:]

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, rows: np.ndarray) -> "Given":
        return Given(self.maps[rows])

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.maps[rows]


def inputs(kind: str, X: np.ndarray) -> np.ndarray | Given:
    """Features (rows, 24) as that kind of learner reads them: LeNet-5 as coarse pictures."""
    X = X.astype(np.float32)
    if kind not in MAPS:
        return X
    maps = X.reshape(len(X), *MAPS[kind])
    return Given(maps.repeat(16, axis=2).repeat(8, axis=3) if kind == "lenet5" else maps)


def maker(kind: str, **settings: object) -> Factory:
    return find(kind, {"kind": kind, **SMALL.get(kind, {}), **settings}).make


class Recorder:
    """An estimator that notes which rows it is shown; a row's only feature is its number."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        assert not hasattr(self, "seen"), "an estimator was fitted twice"
        self.seen, self.y, self.groups = X[:, 0].astype(int), y, groups
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        self.predicted = X[:, 0].astype(int)
        return np.full((len(X), 2), 0.5)


def recording(
    rows: ledger.Ledger, folds: list[int], built: Callable[[Factory], Factory] = lambda make: make
) -> list[Recorder]:
    """Every recorder that cross-fitting `built` of them makes, in order."""
    made: list[Recorder] = []

    def make(context: Context) -> Recorder:
        made.append(Recorder())
        return made[-1]

    numbers = np.arange(len(rows.rows))[:, None]
    crossfit.cross_fit(built(make), rows, lambda _fold: numbers, folds=folds, seed=0, threads=1)
    return made


def test_a_row_is_predicted_by_a_model_that_saw_it_its_group_or_its_views(ready: Workspace) -> None:
    groups = read_table(layout.GROUPS)
    groups["group"] //= 2  # pairs, as if each image had a near-duplicate
    write_table(layout.GROUPS, groups)
    ready.run("split")
    rows = ledger.read()
    made = recording(rows, rows.folds)
    table, predicted = rows.rows, []
    for model in made:
        seen, judged = table.iloc[model.seen], table.iloc[model.predicted]
        judged_train = judged[judged["fold"] >= 0]
        predicted += judged_train.index.tolist()
        assert (seen["fold"] >= 0).all(), "a test row was fitted on"
        assert not set(seen["image_id"]) & set(judged["image_id"])
        assert not set(seen["group"]) & set(judged_train["group"])
        assert np.array_equal(rows.y[model.seen], model.y)
        assert np.array_equal(seen["group"], model.groups)
        assert len(seen) + len(judged_train) == (table["fold"] >= 0).sum()
    assert sorted(predicted) == table.index[table["fold"] >= 0].tolist()
    assert len(made) == 3


TRAINED = {kind: SMALL[kind]["epochs"] for kind in ("gru", "lenet5", "mlp")}


def relabelled(rows: ledger.Ledger, fold: int) -> ledger.Ledger:
    """The same with the other label of each image of a fold."""
    known = rows.truth
    y = np.where(known.fold == fold, 1 - known.y, known.y)
    return ledger.Ledger(rows.rows, Truth(known.images, y, known.target))


@pytest.mark.parametrize("kind", KINDS)
def test_a_watched_fold_changes_what_is_trained_or_its_loss_is_not_that_of_its_predictions(kind: str) -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng, train=160, test=20, views=1)
    X = inputs(kind, rng.normal(size=(180, 24)) + rows.y[:, None] * np.tile((0.5, -0.5), 12))
    cross = partial(crossfit.cross_fit, maker(kind), inputs=lambda _fold: X, folds=[1], seed=0, threads=1)
    plain, watched, other = cross(rows), cross(rows, watch=True), cross(relabelled(rows, 1), watch=True)
    assert plain.test.tobytes() == watched.test.tobytes() == other.test.tobytes()
    assert plain.oof.tobytes() == watched.oof.tobytes() == other.oof.tobytes()
    assert plain.losses.empty
    if kind not in TRAINED:
        assert watched.losses.empty
        return
    assert watched.losses["epoch"].tolist() == list(range(1, TRAINED[kind] + 1))
    assert (watched.losses["fold"] == 1).all()
    assert watched.losses["training"].equals(other.losses["training"])
    assert watched.losses["training"].iloc[-1] < watched.losses["training"].iloc[0]
    held = rows.truth.train.fold == 1
    p = watched.oof[held, rows.truth.train.y[held]]
    assert watched.losses["out_of_fold"].iloc[-1] == pytest.approx(-np.log(p).mean(), abs=1e-4)
    assert watched.losses["out_of_fold"].iloc[-1] != other.losses["out_of_fold"].iloc[-1]


def test_losses_are_those_of_a_candidate_that_was_not_chosen_or_of_features_that_were_left_out() -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng, train=160, test=20)
    X = inputs("mlp", rng.normal(size=(360, 24)))
    makers = {str(epochs): partial(selection.Selected, maker("mlp", epochs=epochs), 0.5) for epochs in (3, 4)}
    make = partial(tuning.Tuned, makers)
    found = crossfit.cross_fit(make, rows, lambda _fold: X, folds=rows.folds, seed=0, threads=1, watch=True).losses
    assert found["fold"].unique().tolist() == rows.folds
    assert found.groupby("fold")["epoch"].max().isin([3, 4]).all()
    assert not found.duplicated(["fold", "epoch"]).any()


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_what_the_training_rows_lack_stops_the_watching_or_gives_no_number(task: Task) -> None:
    rng = np.random.default_rng(0)
    rows = made_ledger(rng, train=160, test=20, views=1)
    held, count = rows.truth.fold == 0, len(rows.truth.fold)
    y = {  # the last class, label or number shows in the fold alone
        "multiclass": np.where(held & (np.arange(count) % 3 == 0), 2, np.arange(count) % 2),
        "multilabel": np.c_[rng.integers(2, size=(count, 2)), held] * 1.0,
        "regression": np.c_[rng.normal(50, 9, size=(count, 2)), held * 1.0],
    }[task]
    known = ledger.Ledger(rows.rows, Truth(rows.truth.images, y, Target(task, ["a", "b", "c"])))
    X = inputs("mlp", rng.normal(size=(count, 24)))
    found = crossfit.cross_fit(maker("mlp"), known, lambda _fold: X, folds=[0], seed=0, threads=1, watch=True).losses
    assert np.isfinite(found).all(axis=None)
    assert found["out_of_fold"].iloc[0] < 3  # of numbers as the network sees them: their variance is 1


def test_settings_are_tuned_on_the_rows_that_are_predicted_or_across_a_group(ready: Workspace) -> None:
    rows = ledger.read()
    *inner, last = recording(rows, rows.folds[:1], lambda make: partial(tuning.Tuned, {"one": make, "other": make}))
    assert len(inner) == 2 * tuning.FOLDS
    outside = set(np.flatnonzero(~rows.rows["fold"].isin([-1, rows.folds[0]])))
    assert set(last.seen) == outside
    groups = rows.rows["group"].to_numpy()
    for model in inner:
        assert set(model.seen) | set(model.predicted) == outside
        assert not set(groups[model.seen]) & set(groups[model.predicted])


def test_the_worst_of_the_settings_is_chosen_or_the_choice_is_not_by_the_loss() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = (rng.normal(size=(200, 40)) + 0.4 * y[:, None]).astype(np.float32)
    found = find("any", {"kind": "logistic", "tune": {"C": [1e-9, 0.01, 1e4]}})
    context = Context(seed=0, threads=1, target=Target("binary", ["0", "1"]))
    tuned = tuning.Tuned(found.makers, context).fit(X, y, np.arange(200)).predict(X)
    assert list(found.makers) == ["C 1e-09", "C 0.01", "C 10000.0"]
    assert np.array_equal(tuned, found.makers["C 0.01"](context).fit(X, y, np.arange(200)).predict(X))


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_features_that_mean_nothing_are_kept_or_columns_of_the_table_lost(task: Task) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 42)).astype(np.float32)
    names = ["a", "b"] if task == "binary" else ["a", "b", "c"]
    raw = X[:, 4 : 4 + len(names)]
    y = raw.argmax(axis=1) if task in ("binary", "multiclass") else raw if task == "regression" else (raw > 0) * 1.0
    context = Context(seed=0, threads=1, target=Target(task, names), extra=2)
    model = selection.Selected(maker("logistic"), 0.1, context).fit(X, y, np.arange(300))
    kept = model._kept.tolist()
    assert len(kept) == 6
    assert kept[-2:] == [40, 41]
    assert set(range(4, 4 + len(names))) <= set(kept)
    assert model.predict(X[:7]).shape == (7, len(names))


@pytest.mark.parametrize(("settings", "words"), [
    ({"kind": "logistic", "tune": {"C": []}}, r"any\.tune\.C is \[\]"),
    ({"kind": "logistic", "tune": {"c": [1]}}, "c"),
    ({"kind": "logistic", "views": "some"}, "any.views is 'some'"),
    ({"kind": "gru", "backbone": "any", "tap": "s1", "views": "mean"}, "reads a whole map, any.s1"),
])  # fmt: skip
def test_what_cannot_be_tuned_or_averaged_is_taken(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        find("any", settings)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow if k == "gru" else ()) for k in KINDS])
def test_shuffled_labels_score_better_than_chance(kind: str) -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng)
    # The views of an image, and the images of a group, are all but equal: a leak would show as a score near 1.
    groups = rng.normal(size=(200, 24))
    X = inputs(kind, groups[rows.rows["group"]] + rng.normal(size=(len(rows.rows), 24)) * 0.05)
    make = partial(selection.Selected, maker(kind), 0.7) if kind == "mlp" else maker(kind)
    result = crossfit.cross_fit(make, rows, lambda fold: X, folds=rows.folds, seed=0, threads=2)
    assert roc_auc_score(rows.truth.train.y, result.oof[:, 1]) == pytest.approx(0.5, abs=0.13)
    inside = (rows.rows["fold"] >= 0).to_numpy()
    seen = make(Context(seed=0, threads=2, target=Target("binary", ["0", "1"]))).fit(
        X[inside], rows.y[inside], rows.rows["group"].to_numpy()[inside]
    )
    assert roc_auc_score(rows.y[inside], seen.predict(X[inside])[:, 1]) > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_fitted_for_a_fold_has_seen_the_fold_s_features(kind: str) -> None:
    rng = np.random.default_rng(2)
    rows = made_ledger(rng, train=120, test=20)
    plain = rng.normal(size=(len(rows.rows), 24)).astype(np.float32)
    held = (rows.rows["fold"] == 0).to_numpy()
    leaking = np.where(held[:, None], plain + 5 * rows.y[:, None], plain)  # a scaler or a projection would tell
    make = partial(tuning.Tuned, {"one": maker(kind), "other": partial(selection.Selected, maker(kind), 0.5)})
    make = maker(kind) if kind in MAPS else make
    one, other = (
        crossfit.cross_fit(make, rows, lambda fold, X=X: inputs(kind, X), folds=[0], seed=0, threads=1)
        for X in (plain, leaking)
    )
    assert one.test.tobytes() == other.test.tobytes()
    assert one.oof.tobytes() != other.oof.tobytes()


SHUFFLED = [pytest.param(k, marks=pytest.mark.slow if k in MAPS else ()) for k in KINDS]


@pytest.mark.parametrize("kind", SHUFFLED)
@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_shuffled_labels_or_numbers_score_better_than_chance_or_true_ones_do_not(kind: str, task: Task) -> None:
    rng = np.random.default_rng(1)
    rows = made_ledger(rng)
    groups = rng.normal(size=(200, 24))
    X = inputs(kind, groups[rows.rows["group"]] + rng.normal(size=(len(rows.rows), 24)) * 0.05)
    group = rows.truth.images["group"].to_numpy()
    make = maker(kind, **WIDE.get(kind, {}))
    metric = {"multilabel": "roc_auc", "regression": "r2"}[task]
    for meaning in (False, True):
        numbers = groups[:, :2] * 3 if meaning else rng.normal(size=(200, 2))
        y = (numbers > 0).astype(float)[group] if task == "multilabel" else numbers[group]
        known = ledger.Ledger(rows.rows, Truth(rows.truth.images, y, Target(task, ["a", "b"])))
        result = crossfit.cross_fit(make, known, lambda fold: X, folds=known.folds, seed=0, threads=2)
        assert np.isfinite(result.test).all()
        score = metrics.find(metric).score(known.truth.train.y, result.oof)
        chance = 0.5 if task == "multilabel" else 0.0
        assert score > chance + 0.15 if meaning else score < chance + 0.13, score


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_learner_gives_other_bytes_for_the_same_seed_or_no_probabilities(kind: str, classes: int) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % classes
    given = (rng.normal(size=(120, 24)) + y[:, None] * np.tile((1.5, -1.5), 12)).astype(np.float32)
    X, target = inputs(kind, given.copy()), Target("multiclass", list(map(str, range(classes))))
    make = maker(kind, **({"epochs": 40} if kind in MAPS else {}))
    fitted = [make(Context(seed=5, threads=2, target=target)).fit(X, y, np.arange(120)) for _ in range(2)]
    one, other = (model.predict(X) for model in fitted)
    assert one.tobytes() == other.tobytes()
    assert one.shape == (120, classes)
    assert np.allclose(one.sum(1), 1)
    assert (one.argmax(1) == y).mean() > 0.7
    assert kind in MAPS or np.array_equal(X, given), "the input was changed"
    order = rng.permutation(120)
    assert np.allclose(fitted[0].predict(X[order]), one[order], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_choice_of_a_fold_knows_its_labels(classes: int) -> None:
    rng = np.random.default_rng(0)
    y, fold = rng.integers(0, classes, 150), np.arange(150) % 5
    columns = [(rng.normal(size=(150, 6)) + y[:, None] * rng.uniform(0, 0.6)).astype(np.float32) for _ in range(4)]
    scrambled = np.where(fold == 2, rng.permutation(y), y)
    assert (scrambled != y).any()
    target = Target("multiclass", list(map(str, range(classes))))
    before, after = ([ranking.probe(X, t, fold, target, alpha=10.0) for X in columns] for t in (y, scrambled))
    assert [score["2"] for score in before] == [score["2"] for score in after]
    for other in ("0", "1", "3", "4", ranking.ALL):
        assert [score[other] for score in before] != [score[other] for score in after]


def test_a_fold_is_stacked_with_the_columns_chosen_from_all_rows(
    ready: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.set("rank.max_channels", 200)
    ready.run("rank")
    assert set(read_json(layout.CHOICE)) == {"0", "1", "2", "all"}
    asked = []
    monkeypatch.setattr(features.Features, "read", lambda _self, columns: asked.append(columns))
    read = learn._inputs(find("any", {"kind": "logistic"}), ledger.read())
    for fold in range(3):
        read(fold)
    choice = features.read_choice(layout.CHOICE)
    assert asked == [choice["0"], choice["1"], choice["2"]]


@pytest.mark.parametrize("method", ["greedy", "logistic", "lightgbm", "any"])
def test_what_blends_a_fold_knows_its_labels(method: blending.Method) -> None:
    rng = np.random.default_rng(0)
    y, fold = rng.integers(0, 2, 200), np.arange(200) % 4
    members = rng.dirichlet((1, 1), size=(5, 200))
    scrambled = np.where(fold == 1, 1 - y, y)
    recipe = blending.Recipe(rounds=20, bags=3, threads=1, **({} if method == "any" else {"methods": [method]}))
    task = blending.Aim(metrics.find("log_loss"), Target("binary", ["0", "1"]), recipe)
    before, after = (blending.nested(members, t, fold, task) for t in (y, scrambled))
    assert np.array_equal(before.members[1], after.members[1], equal_nan=True)
    assert before.methods[1] == after.methods[1]
    assert np.array_equal(before.oof[fold == 1], after.oof[fold == 1])
    assert not np.array_equal(before.oof[fold == 0], after.oof[fold == 0])
    assert before.score(task.metric, y) > 0.6, "labels that mean nothing were told"


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("kind", ["logistic", "svm", "lightgbm", "mlp", "gru"])
def test_class_weights_change_nothing_or_skew_the_probabilities(kind: str, task: Task) -> None:
    rng = np.random.default_rng(0)
    rare = rng.random((600, 2)) < (0.12, 0.3)
    y = rare * 1.0 if task == "multilabel" else rare[:, 0] + (2 * rare[:, 1] * (task == "multiclass"))
    y = y if task == "multilabel" else np.minimum(y, 2).astype(int)
    X = inputs(kind, np.hstack([rare + rng.normal(size=(600, 2)), rng.normal(size=(600, 22))]))
    names = ["a", "b", "c"] if task == "multiclass" else ["a", "b"]
    context = Context(seed=0, threads=1, target=Target(task, names))
    p, plain = (
        fitting.fit(maker(kind, **given), context, X, y, np.arange(600))(X)
        for given in ({"class_weight": "balanced"}, {})
    )
    wanted = y.mean(axis=0) if task == "multilabel" else np.bincount(y) / len(y)
    assert not np.allclose(p, plain, atol=1e-4), "nothing was weighted"
    assert np.allclose(p.mean(axis=0), wanted, atol=0.08), "the probabilities are not those of the rows as they come"
    assert task == "multilabel" or np.allclose(p.sum(axis=1), 1)


def test_a_network_forgets_how_rare_a_class_is_or_that_it_is_certain() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(2000) % 50 == 0).astype(int)  # so rare that most batches have none or one
    context = Context(seed=0, threads=1, target=Target("binary", ["a", "b"]))
    settings = {"class_weight": "balanced", "epochs": 40, "members": 1, "batch": 64, "dropout": 0.0,
                "learning_rate": 0.05}  # fmt: skip
    for X, low, high in (
        (rng.normal(size=(2000, 1)), 0.01, 0.04),
        # Smoothed labels would leave 0.28: 0.95 and 0.05, each divided by its weight.
        (20.0 * y[:, None] + rng.normal(size=(2000, 1)), 0.6, 1),
    ):
        make = find("mlp", {"kind": "mlp", "hidden": 8, **settings}).make
        p = fitting.fit(make, context, X.astype(np.float32), y, np.arange(2000))(X.astype(np.float32))
        assert low < p[y == 1, 1].mean() < high


def test_a_fold_of_classes_that_were_not_learned_stops_the_training() -> None:
    rng = np.random.default_rng(0)
    watch = Watch(np.zeros((5, 24), np.float32), np.full(5, 2))
    context = Context(seed=0, threads=1, target=Target("multiclass", ["a", "b", "c"]), watch=watch)
    X = rng.normal(size=(40, 24)).astype(np.float32)
    p = fitting.fit(maker("mlp"), context, X, np.arange(40) % 2, np.arange(40))(X)
    assert (p[:, 2] == 0).all()
    assert not watch.losses


def test_numbers_are_given_class_weights() -> None:
    context = Context(seed=0, threads=1, target=Target("regression", ["size"]))
    with pytest.raises(ParamsError, match="class_weight is for classes and labels"):
        maker("logistic", class_weight="balanced")(context)


def test_a_member_that_adds_nothing_has_a_weight() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    evidence = 2 * (2 * y - 1) / 3 * 2 + rng.normal(size=(2, 400)) * 2  # two witnesses who err independently
    p = np.vstack([1 / (1 + np.exp(-evidence)), rng.uniform(0.2, 0.8, (1, 400))])
    members = np.stack([1 - p, p], axis=2)
    metric = metrics.find("log_loss")
    rule = decisions.plain(metric, Target("binary", ["0", "1"]))
    weights = blending.dropped(members, y, metric, rule, np.array([0.48, 0.5, 0.02]))
    assert weights[2] == 0
    assert weights.sum() == pytest.approx(1)
    assert (weights[:2] > 0.4).all(), "one that adds something was dropped"
    again = 1 / (1 + np.exp(-evidence[0] - np.random.default_rng(1).normal(size=400) * 1.2))
    blurred = np.stack([*members[:2], np.stack([1 - again, again], axis=1)])  # some bags take the last
    for method in ("logistic", "lightgbm", "greedy"):
        members = blurred if method == "greedy" else members
        aim = blending.Aim(metric, Target("binary", ["0", "1"]), blending.Recipe(methods=[method], threads=1))
        blend = blending.fit(members, y, np.arange(400) % 4, aim)
        assert blend.weights[2] == 0, method
        assert (blend.weights[:2] != 0).all(), method
        changed = np.concatenate([members[:2], members[:1]])
        assert np.array_equal(blend.of(changed), blend.of(members)), method


def test_a_way_to_blend_that_was_asked_for_is_passed_over_or_stackers_learn_of_very_many_names() -> None:
    metric, few, many = (
        metrics.find("log_loss"),
        Target("binary", ["0", "1"]),
        Target("multiclass", [*map(str, range(50))]),
    )
    asked = blending.Recipe(methods=["logistic"])
    assert blending.Aim(metric, many, asked).methods == ["logistic"]
    assert list(blending.Aim(metric, many, blending.Recipe()).methods) == ["mean", "greedy"]
    assert list(blending.Aim(metric, few, blending.Recipe()).methods) == ["mean", "greedy", "logistic", "lightgbm"]


def test_what_gains_by_luck_is_taken_or_what_gains_in_every_fold_is_not() -> None:
    losses = {"mean": 0.42, "greedy": 0.41, "logistic": 0.40}
    plain = np.array([0.3, 0.5, 0.6, 0.4, 0.3])
    lucky = plain - (0.3, -0.1, 0.1, -0.1, -0.1)
    assert blending._simplest(losses, {"mean": plain, "greedy": plain + 0.1, "logistic": lucky}) == "mean"
    assert blending._simplest(losses, {"mean": plain, "greedy": plain, "logistic": plain - 0.02}) == "logistic"
    assert blending._simplest(losses, {"mean": plain + np.inf, "greedy": plain, "logistic": lucky}) == "greedy"
    alone = np.append(plain, np.inf)  # a fold of one class, in which no method has a ROC AUC
    assert blending._simplest(losses, {"mean": alone, "greedy": alone, "logistic": np.append(lucky, np.inf)}) == "mean"
    one_sided = {"mean": plain + np.nan, "greedy": plain + np.nan, "logistic": plain + np.nan}
    assert blending._simplest(losses, one_sided) == "logistic"


def test_the_mean_is_not_of_the_members_as_they_are() -> None:
    rng = np.random.default_rng(0)
    y, members = rng.integers(0, 2, 90), rng.dirichlet((1, 1), size=(3, 90))
    aim = blending.Aim(
        metrics.find("roc_auc"), Target("binary", ["0", "1"]), blending.Recipe(methods=["mean"], threads=1)
    )
    blend = blending.fit(members, y, np.arange(90) % 3, aim)
    assert np.allclose(blend.weights, 1 / 3)
    assert np.allclose(blend.of(members), members.mean(0))


@pytest.mark.parametrize("method", ["mean", "greedy", "logistic", "lightgbm"])
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_no_test_images_end_the_blend(kind: Task, method: blending.Method) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 90) if kind == "binary" else rng.normal(size=(90, 2))
    members = rng.dirichlet((1, 1), size=(3, 90))
    recipe = blending.Recipe(methods=[method], rounds=3, bags=1, threads=1)
    aim = blending.Aim(metrics.find("log_loss" if kind == "binary" else "rmse"), Target(kind, ["0", "1"]), recipe)
    assert blending.fit(members, y, np.arange(90) % 3, aim).of(members[:, :0]).shape == (0, 2)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_a_stacker_is_not_fitted_for_a_task_or_chosen_where_it_is_worse(kind: Task) -> None:
    rng = np.random.default_rng(0)
    names = ["a", "b"] if kind == "binary" else ["a", "b", "c"]
    fold = np.arange(300) % 3
    y = rng.integers(0, len(names), 300) if kind in ("binary", "multiclass") else rng.integers(0, 2, (300, 3)) * 1.0
    true = np.eye(len(names))[y] if y.ndim == 1 else y
    # One member tells the opposite of the truth, which a mean cannot use and a stacker can.
    one = np.clip((1 - true) * 0.6 + 0.2 + rng.normal(size=true.shape) * 0.2, 0.01, 0.99)
    members = np.stack([one, rng.uniform(0.3, 0.7, true.shape)])
    if y.ndim == 1:
        members /= members.sum(axis=2, keepdims=True)
    metric = metrics.find("rmse" if kind == "regression" else "log_loss")
    task = blending.Aim(metric, Target(kind, names), blending.Recipe(rounds=10, bags=2, threads=1))
    result = blending.nested(members, y, fold, task)
    assert set(result.methods) <= {"logistic", "lightgbm"}
    alone = blending.Aim(metric, task.target, blending.Recipe(methods=["greedy"], rounds=10, bags=2))
    assert result.score(metric, y) < 0.8 * blending.nested(members, y, fold, alone).score(metric, y)
    blend = blending.fit(members, y, fold, task)
    assert np.allclose(blend.of(members[:, 50:60]), blend.of(members)[50:60])
    assert y.ndim > 1 or np.allclose(blend.of(members).sum(axis=1), 1)


def test_features_are_joined_by_position(ready: Workspace) -> None:
    rows = read_table(layout.VIEWS)[["image_id", "view"]].sample(frac=1, random_state=0)
    folder = layout.features("tiny")
    columns = features.available(["tiny"])
    pairs = list(zip(columns["backbone"], columns["column"], strict=True))
    before = features.Features(rows).read(pairs)
    held = read_table(folder / "rows.parquet")
    order = np.random.default_rng(1).permutation(len(held))
    write_table(folder / "rows.parquet", held.iloc[order])
    for path in folder.glob("*.npy"):
        np.save(path, np.load(path)[order])
    assert np.array_equal(features.Features(rows).read(pairs), before)
    assert before.shape == (160, columns["channels"].sum())
    write_table(folder / "rows.parquet", held.iloc[order].assign(view=0))
    with pytest.raises((ArtifactError, pd.errors.InvalidIndexError)):
        features.Features(rows).read(pairs)


def test_the_mean_of_views_is_of_others_or_in_another_order(ready: Workspace) -> None:
    every = ledger.read()
    pairs = [("tiny", "head")]
    shuffled = ledger.Ledger(every.rows.sample(frac=1, random_state=0), every.truth)
    X = pd.DataFrame(features.Features(shuffled.rows).read(pairs)).groupby(shuffled.rows["image_id"].to_numpy()).mean()
    found = features.Features(shuffled.rows).means(pairs)
    assert np.allclose(found, X.loc[shuffled.by_image.rows["image_id"]].to_numpy(), atol=1e-6)
    assert len(found) == every.rows["image_id"].nunique() == len(every.rows) // 2
    ready.set("learn.learners.logistic", {"kind": "logistic", "views": "mean", "tune": {"C": [0.001, 0.01]}})
    ready.run("rank", "learn logistic")
    assert len(read_table(layout.learned("logistic") / "oof.parquet")) == len(every.truth.train.images)


def test_learners_change_with_the_order_of_the_features_files(ready: Workspace) -> None:
    ready.run("rank", "learn logistic")
    before = [path.read_bytes() for path in sorted(layout.learned("logistic").iterdir())]
    folder = layout.features("tiny")
    held = read_table(folder / "rows.parquet")
    write_table(folder / "rows.parquet", held[::-1])
    for path in folder.glob("*.npy"):
        np.save(path, np.load(path)[::-1])
    ready.run("rank", "learn logistic")
    assert before == [path.read_bytes() for path in sorted(layout.learned("logistic").iterdir())]


def test_a_missing_row_is_filled_in(ready: Workspace) -> None:
    rows = read_table(layout.VIEWS)[["image_id", "view"]]
    more = pd.concat([rows, rows.head(1).assign(view=99)])
    with pytest.raises(ArtifactError, match="lacks image test/test000 view 99; dvc repro extract@tiny computes it"):
        features.Features(more).read([("tiny", "head")])


def test_a_split_cuts_a_group() -> None:
    rng = np.random.default_rng(0)
    for seed, (size, classes) in enumerate(itertools.product((60, 200), (2, 3))):
        groups, labels = rng.integers(0, size // 3, size), rng.integers(0, classes, size)
        dealt = folds.deal(labels, groups, task="multiclass", folds=3, seed=seed)
        assert (pd.Series(dealt).groupby(groups).nunique() == 1).all()
        assert set(dealt) == {0, 1, 2}
        for inside, outside in folds.inner(labels, groups, task="multiclass", folds=3, seed=seed):
            assert not set(groups[inside]) & set(groups[outside])


def test_folds_of_a_seed_differ_or_of_two_seeds_agree() -> None:
    labels, groups = np.arange(60) % 2, np.arange(60)
    one, again, other = (folds.deal(labels, groups, task="binary", folds=3, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert set(pd.crosstab(one, labels).to_numpy().ravel()) == {10}


@pytest.mark.parametrize("groups", [range(32), [*range(30), 30, 30]])
def test_a_class_smaller_than_the_folds_stops_the_run_or_its_members_meet_needlessly(groups: list[int]) -> None:
    labels, group = np.r_[np.zeros(30, dtype=int), 1, 1], np.array(groups)
    fold = folds.deal(labels, group, task="multiclass", folds=3, seed=0)
    assert len(set(fold[labels == 1])) == len(set(group[labels == 1]))
    assert folds.scarce(labels, group, task="multiclass", folds=3).tolist() == [1]


def test_many_classes_of_one_image_or_too_few_groups_give_a_traceback() -> None:
    fold = folds.deal(np.arange(40), np.arange(40), task="multiclass", folds=4, seed=0)
    assert np.bincount(fold).tolist() == [10] * 4
    with pytest.raises(LedgerError, match=r"40 training images in 2 group\(s\).*lower split.folds"):
        folds.deal(np.arange(40), np.arange(40) % 2, task="multiclass", folds=4, seed=0)


def test_labels_or_numbers_are_spread_unevenly_over_folds_or_a_group_is_cut() -> None:
    rng = np.random.default_rng(0)
    groups = np.arange(400) // 2
    flags = (rng.random((200, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.01])[groups].astype(float)
    numbers = np.exp(rng.normal(size=(200, 1)))[groups]
    for y, task in ((flags, "multilabel"), (numbers, "regression")):
        one, again, other = (folds.deal(y, groups, task=task, folds=4, seed=seed) for seed in (0, 0, 1))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)
        assert (pd.Series(one).groupby(groups).nunique() == 1).all()
        assert np.ptp(np.bincount(one)) <= 8
        if task == "multilabel":
            counts = np.stack([flags[one == fold].sum(axis=0) for fold in range(4)])
            assert (np.ptp(counts, axis=0) <= 6).all(), counts
        else:
            middles = [np.median(numbers[one == fold]) for fold in range(4)]
            assert max(middles) / min(middles) < 1.3, middles


def test_a_training_image_without_a_fold_is_left_out(ready: Workspace) -> None:
    write_table(layout.FOLDS, read_table(layout.FOLDS).iloc[1:])
    with pytest.raises(LedgerError, match="1 training images have no fold, first train/train000"):
        ledger.read()
