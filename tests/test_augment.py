"""The view plan: a view is the same whoever asks, and nothing that is added changes another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goulot import layout
from goulot.artifacts import read_table
from goulot.augmentation import POLICIES, View, after_resize, before_resize, draw, find_policy, show, table, views_of
from tests.tiny import Workspace

CONTENTS = [f"{i:02x}" * 32 for i in range(20)]
IDS = [f"train/{i}" for i in range(20)]


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", POLICIES)
def test_a_view_differs_from_call_to_call(name: str) -> None:
    one, other = (table(IDS, CONTENTS, find_policy(name), views=5, seed=3) for _ in range(2))
    assert one.equals(other)
    pictures = [[show(picture(), view).tobytes() for view in views_of(t.head(6))] for t in (one, other)]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("name", POLICIES)
def test_an_added_image_or_view_changes_others(name: str) -> None:
    policy = find_policy(name)
    few = table(IDS[5:9], CONTENTS[5:9], policy, views=3, seed=0)
    many = table(IDS[::-1], CONTENTS[::-1], policy, views=6, seed=0)
    shared = few[["image_id", "view"]].merge(many, on=["image_id", "view"])
    assert shared.equals(few.reset_index(drop=True))


def test_a_seed_does_nothing() -> None:
    one, other = (table(IDS, CONTENTS, find_policy("strong"), views=3, seed=seed) for seed in (0, 1))
    assert not one.equals(other)


@pytest.mark.parametrize("name", POLICIES)
def test_view_zero_is_changed(name: str) -> None:
    first = next(draw(find_policy(name), CONTENTS[0], views=2, seed=0))
    assert first == View()
    image = picture()
    assert before_resize(image, first) is image
    assert np.array_equal(after_resize(np.asarray(image), first), np.asarray(image))


def test_dihedral_views_repeat_one_another() -> None:
    for content in CONTENTS:
        views = list(draw(find_policy("dihedral"), content, views=7, seed=0))
        shown = {np.asarray(show(picture(), view)).tobytes() for view in views}
        assert len(shown) == 8


def test_all_images_are_dealt_the_same_turns() -> None:
    plan = table(IDS, CONTENTS, find_policy("dihedral"), views=1, seed=0)
    turned = plan[plan["view"] == 1]
    assert len(turned[["quarter_turns", "flip"]].drop_duplicates()) > 3


def test_a_view_leaves_a_black_border_or_changes_the_size() -> None:
    white = Image.new("RGB", (60, 40), "white")
    for content in CONTENTS:
        for view in draw(find_policy("light"), content, views=2, seed=0):
            turned = before_resize(white, View(angle=view.angle))
            assert turned.size == white.size
            assert np.asarray(turned).min() == 255


def test_a_tiny_image_cannot_be_cropped() -> None:
    for content in CONTENTS:
        for view in draw(find_policy("strong"), content, views=3, seed=0):
            assert min(show(Image.new("RGB", (1, 2)), view).size) >= 1


def test_a_plan_read_from_its_file_is_another_plan(workspace: Workspace) -> None:
    workspace.set("augment.policy", "strong")
    workspace.run("fetch", "ingest", "augment")
    manifest, plan = read_table(layout.MANIFEST), read_table(layout.VIEWS)
    assert len(plan) == 2 * len(manifest)
    made = [v for content in manifest["sha256"] for v in draw(find_policy("strong"), content, views=1, seed=0)]
    assert views_of(plan) == made


def test_the_preview_is_missing_or_empty(workspace: Workspace) -> None:
    workspace.run("fetch", "ingest", "augment")
    with Image.open(layout.PREVIEW) as preview:
        assert len(np.unique(np.asarray(preview))) > 100
    assert not list(Path("data/augment").glob(".*"))
