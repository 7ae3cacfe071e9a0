"""Images: what is broken is set aside with a reason, what is unusual becomes RGB as documented."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from goulot import augmentation, images, layout
from goulot.artifacts import read_json
from tests.tiny import Workspace


def _encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


RED = Image.new("RGB", (8, 6), (200, 30, 30))
ODD = {
    "gray": (_encoded(Image.new("L", (8, 6), 77)), (77, 77, 77)),
    "palette": (_encoded(RED.quantize(4)), (200, 30, 30)),
    "transparent": (_encoded(Image.new("RGBA", (8, 6), (0, 0, 0, 0))), (255, 255, 255)),
    "16-bit": (_encoded(Image.fromarray(np.full((6, 8), 65535, np.uint16))), (255, 255, 255)),
    "bilevel": (_encoded(Image.new("1", (8, 6), 1)), (255, 255, 255)),
    "cmyk": (_encoded(Image.new("CMYK", (8, 6), (0, 0, 0, 255)), "TIFF"), (0, 0, 0)),
}


@pytest.mark.parametrize("case", ODD)
def test_an_unusual_mode_is_decoded_otherwise_than_documented(case: str) -> None:
    data, colour = ODD[case]
    image = images.decode(data)
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.abs(np.asarray(image).astype(int) - colour).max() <= 3


def test_one_pixel_that_is_no_number_blackens_a_floating_point_image() -> None:
    pixels = np.array([[np.nan, -3.5, 4.5, np.inf]] * 4, np.float32)
    image = images.decode(_encoded(Image.fromarray(pixels), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 255, 0]


def test_a_rotated_photograph_stays_on_its_side() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.decode(_encoded(RED, "JPEG", exif=exif)).size == (6, 8)


def test_a_broken_image_stops_the_run_or_vanishes_without_a_word(workspace: Workspace) -> None:
    train = workspace.competition / "train"
    whole = (train / "train000.png").read_bytes()
    (train / "train000.png").write_bytes(whole[: len(whole) // 2])
    (train / "train001.png").write_bytes(b"")
    (train / "train002.png").write_text("not an image")
    (train / "train003.png").unlink()
    workspace.set("ingest.max_quarantined", 0.1)
    workspace.run("fetch", "ingest")
    bad = pd.read_parquet(layout.QUARANTINE).set_index("id")["reason"]
    assert sorted(bad.index) == [f"train00{i}" for i in range(4)]
    assert "damaged" in bad["train000"]
    assert "empty" in bad["train001"]
    assert "not an image" in bad["train002"]
    assert "No such file" in bad["train003"]
    assert read_json(layout.metrics(layout.INGEST))["quarantined"] == 4
    assert len(pd.read_parquet(layout.MANIFEST)) == 76


def test_too_many_broken_images_pass(workspace: Workspace, refusal: Callable[..., str]) -> None:
    for i in range(3):
        (workspace.competition / f"train/train00{i}.png").write_bytes(b"")
    workspace.run("fetch")
    assert "3 of 80 images cannot be used" in refusal("ingest")


TABLES = {
    "no table": (lambda p: p.unlink(), "train.csv is not there"),
    "no column": (lambda p: p.write_text("id,class\na,b\n"), "no column 'label'"),
    "blank label": (lambda p: p.write_text("id,label\ntrain000,good\ntrain001,\n"), "line 3: 'label' is empty"),
    "same id": (lambda p: p.write_text("id,label\ntrain000,a\ntrain000,b\n"), "line 3: id 'train000' occurs twice"),
    "outside": (lambda p: p.write_text("id,label\n../../x,a\n"), "lies outside"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_bad_table_is_not_refused_in_one_line(case: str, workspace: Workspace, refusal: Callable[..., str]) -> None:
    break_it, words = TABLES[case]
    break_it(workspace.competition / "train.csv")
    workspace.run("fetch")
    assert words in refusal("ingest")


def test_packing_changes_an_image(workspace: Workspace) -> None:
    workspace.set("ingest.shard_mib", 1)
    workspace.run("fetch", "ingest")
    manifest = pd.read_parquet(layout.MANIFEST)
    shards = images.Shards(layout.SHARDS, manifest)
    for row in manifest.itertuples():
        original = Image.open(layout.RAW / row.file).convert("RGB")
        assert shards.decode(row.shard, row.row, row.image_id).tobytes() == original.tobytes()


@pytest.mark.parametrize("policy", augmentation.POLICIES)
def test_a_new_image_or_view_changes_the_views_of_another(policy: str) -> None:
    rules = augmentation.POLICIES[policy]
    contents = [f"{i:064x}" for i in range(3)]
    few = augmentation.table(["a", "b"], contents[:2], rules, views=3, seed=0)
    more = augmentation.table(["c", "a", "b"], [contents[2], *contents[:2]], rules, views=5, seed=0)
    both = few.merge(more, on=["image_id", "view"], suffixes=("", "_more"))
    assert len(both) == len(few)
    for name in augmentation.View.__dataclass_fields__:
        assert (both[name] == both[f"{name}_more"]).all(), name


def test_the_first_view_is_not_the_image_or_two_views_are_one() -> None:
    views = list(augmentation.draw(augmentation.POLICIES["dihedral"], "ab" * 32, views=7, seed=0))
    assert views[0] == augmentation.View()
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    shown = [augmentation.show(picture, view) for view in views]
    assert shown[0].tobytes() == picture.tobytes()
    assert len({image.tobytes() for image in shown}) == 8


def test_a_strong_view_loses_the_images_size() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    for view in augmentation.draw(augmentation.POLICIES["strong"], "cd" * 32, views=8, seed=0):
        assert min(augmentation.show(picture, view).size) >= 20


def test_a_stage_writes_half_a_file(tmp_path: Path) -> None:
    from goulot.artifacts import write_bytes

    target = tmp_path / "x.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        write_bytes(target, lambda file: (file.write(b"new"), (_ for _ in ()).throw(RuntimeError))[0])
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
