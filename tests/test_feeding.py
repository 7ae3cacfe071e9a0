"""Feeding: however images are decoded and resized, the network is shown the same ones, the same way up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from goulot import feeding, jpegs
from goulot.augmentation import View
from goulot.backbones import Backbone, BackboneParams, load
from goulot.engine import Decoder, Engine
from goulot.feeding import Job
from goulot.images import Shards, pack

VIEWS = [View(), View(quarter_turns=1, flip=True), View(left=0.1), View(noise=0.05)]


def photograph(rng: np.random.Generator, mode: str = "RGB") -> Image.Image:
    """Smooth, and different in each corner, so that it cannot be turned without a trace."""
    cells = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((150, 120), Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def kinds(tmp_path: Path) -> dict[str, Path]:
    """A file of every kind that a JPEG decoder for GPUs is or is not to be given, by what it is."""
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    upright = Image.Exif()
    upright[0x0112] = 1
    files = {
        "plain": ("RGB", "jpg", {}), "gray": ("L", "jpg", {}), "progressive": ("RGB", "jpg", {"progressive": True}),
        "upright": ("RGB", "jpg", {"exif": upright}), "turned": ("RGB", "jpg", {"exif": exif}),
        "said in XMP": ("RGB", "jpg", {"xmp": b'<x tiff:Orientation="6"/>'}),
        "ink": ("CMYK", "jpg", {}), "lossless": ("RGB", "png", {}),
    }  # fmt: skip
    for name, (mode, suffix, options) in files.items():
        photograph(rng, mode).save(tmp_path / f"{name}.{suffix}", quality=95, **options)
    return {name: tmp_path / f"{name}.{suffix}" for name, (_, suffix, _) in files.items()}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load("tiny", BackboneParams(model="test_efficientnet", weights="random", input_size=96))


def rows(
    backbone: Backbone, files: dict[str, Path], engine: Engine, views: list[View] = VIEWS
) -> dict[str, np.ndarray]:
    """What the network would be shown, by image and view."""
    folder = next(iter(files.values())).parent
    packed = pd.DataFrame(pack(files.items(), folder, shard_bytes=1 << 20), columns=["image_id", "shard", "row"])
    jobs = [
        Job(shard, row, image_id, views, [f"{image_id} {number}" for number in range(len(views))])
        for image_id, shard, row in packed.itertuples(index=False)
    ]
    found = {}
    for names, pixels in feeding.batches(backbone, engine, Shards(folder, packed), jobs):
        found.update(zip(names, pixels.cpu().numpy().astype(int), strict=False))
    return found


def test_a_gpu_is_given_a_jpeg_that_it_would_show_otherwise(kinds: dict[str, Path]) -> None:
    able = {name for name, path in kinds.items() if jpegs.size(memoryview(path.read_bytes()))}
    assert able == {"plain", "gray", "progressive", "upright"}
    cut = memoryview(kinds["upright"].read_bytes()[:40])
    assert not jpegs.size(cut)
    assert jpegs.size(memoryview(kinds["plain"].read_bytes())) == 150 * 120


@pytest.mark.parametrize(
    "engine",
    [Engine("cpu", "float32", 5, 2, resizer="torch"), Engine("cpu", "float32", 5, 2, resizer="torch", decoder="gpu")],
    ids=["torch resizes", "JPEGs are decoded together"],
)
def test_a_faster_way_shows_another_picture(
    backbone: Backbone, kinds: dict[str, Path], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, real = [], jpegs.decode_jpeg
    monkeypatch.setattr(jpegs, "decode_jpeg", lambda data, **how: decoded.extend(data) or real(data, **how))
    expected, found = (rows(backbone, kinds, one) for one in (Engine("cpu", "float32", 5, 2), engine))
    assert len(decoded) == (4 if engine.decoder == "gpu" else 0)
    assert found.keys() == expected.keys()
    for name, picture in expected.items():
        assert np.abs(found[name] - picture).mean() < 0.5, name
        assert np.abs(found[name] - picture).max() <= 4, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("decoder", ["threads", "gpu"])
def test_a_gpu_is_shown_another_picture(backbone: Backbone, kinds: dict[str, Path], decoder: Decoder) -> None:
    engine = Engine("cuda", "float16", 5, 2, resizer="torch", decoder=decoder)
    expected, found = (rows(backbone, kinds, one) for one in (Engine("cpu", "float32", 5, 2), engine))
    for name, picture in expected.items():
        assert np.abs(found[name] - picture).mean() < 2, name


def test_a_jpeg_that_only_pillow_reads_ends_the_run_or_changes_its_neighbours(
    backbone: Backbone, kinds: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine("cpu", "float32", 5, 2, resizer="torch", decoder="gpu")
    expected, real = rows(backbone, kinds, engine), jpegs.decode_jpeg

    def fails_on_gray(encoded: list, **settings: object) -> list:
        if any(len(one) == kinds["gray"].stat().st_size for one in encoded):
            raise RuntimeError("unsupported")
        return real(encoded, **settings)

    monkeypatch.setattr(jpegs, "decode_jpeg", fails_on_gray)
    found = rows(backbone, kinds, engine)
    assert max(np.abs(found[name] - picture).max() for name, picture in expected.items()) <= 4
    assert all((found[name] == expected[name]).all() for name in expected if not name.startswith("gray"))


def test_a_full_gpu_is_taken_for_a_jpeg_that_it_cannot_read(
    kinds: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(encoded: list, **settings: object) -> list:
        raise RuntimeError("status 5")

    monkeypatch.setattr(jpegs, "decode_jpeg", fails)
    data = [jpegs.opened(memoryview(kinds["plain"].read_bytes()))] * 2
    assert jpegs.decode(data, lambda images: images, "cpu") == [None, None]
    monkeypatch.setattr(jpegs, "_full", lambda device, pixels: True)
    with pytest.raises(torch.OutOfMemoryError, match="status 5"):
        jpegs.decode(data, lambda images: images, "cpu")


def test_large_photographs_are_decoded_all_at_once(kinds: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(jpegs, "PIXELS", 2 * 150 * 120)
    data = [jpegs.opened(memoryview(kinds["plain"].read_bytes()))] * 5
    found = jpegs.decode(data, lambda images: sizes.append(len(images)) or images, "cpu")
    assert sizes == [2, 2, 1]
    assert len(found) == 5


def test_a_view_depends_on_which_others_are_wanted_beside_it(backbone: Backbone, kinds: dict[str, Path]) -> None:
    engine = Engine("cpu", "float32", 5, 2, resizer="torch", decoder="gpu")
    together, alone = (rows(backbone, kinds, engine, views) for views in (VIEWS, VIEWS[:1]))
    assert len(alone) == len(kinds)
    assert all((together[name] == picture).all() for name, picture in alone.items())
