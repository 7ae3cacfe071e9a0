"""Decoding: every kind of file becomes the RGB picture that a person would see; a shard gives no other image."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from goulot.errors import ArtifactError, DataError
from goulot.images import Shards, decode, pack

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def pixels(image: Image.Image, form: str = "PNG", **options: object) -> np.ndarray:
    """What `decode` makes of the image's file."""
    buffer = BytesIO()
    image.save(buffer, form, **options)
    decoded = decode(buffer.getvalue())
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


def test_gray_sixteen_bits_or_floats_lose_their_steps() -> None:
    deep, floats = Image.fromarray(RAMP.astype(np.uint16) * 257), Image.fromarray(RAMP / np.float32(50) - 1)
    assert np.array_equal(pixels(Image.fromarray(RAMP)), np.repeat(RAMP[..., None], 3, axis=2))
    assert np.array_equal(pixels(deep)[..., 0], RAMP)
    assert np.array_equal(pixels(floats, "TIFF")[..., 0], RAMP)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_pixel_shows_what_hides_behind_it(mode: str) -> None:
    image = Image.new(mode, (4, 4), {"RGBA": (255, 0, 0, 0), "LA": (0, 0), "P": 0}[mode])
    assert (pixels(image, **({"transparency": 0} if mode == "P" else {})) == 255).all()


def test_a_half_transparent_pixel_is_not_laid_on_white() -> None:
    assert pixels(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))[0, 0, 0] == pytest.approx(127, abs=1)


def test_a_cmyk_photograph_is_inverted() -> None:
    red = pixels(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)[8, 8]
    assert red[0] > 200
    assert red[1:].max() < 80


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_photograph_is_turned_the_wrong_way(orientation: int, turns: int) -> None:
    picture = np.zeros((32, 64, 3), dtype=np.uint8)
    picture[:16, :32] = 255  # bright at the top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown, expected = pixels(Image.fromarray(picture), "JPEG", exif=exif, quality=95), np.rot90(picture, turns)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 5


def test_an_animation_is_not_its_first_frame() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (40, 200)]
    assert (pixels(frames[0], "GIF", save_all=True, append_images=frames[1:]) == 40).all()


def test_a_shard_gives_another_image_than_asked_for_or_a_traceback(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    places = list(pack([("train/a", tmp_path / "a.png")], tmp_path, shard_bytes=1))
    manifest = pd.DataFrame(places, columns=["image_id", "shard", "row"])
    with pytest.raises(DataError, match="holds 'train/a', not 'train/b'"):
        Shards(tmp_path, manifest).decode("00000.arrow", 0, "train/b")
    (tmp_path / "00000.arrow").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match="missing or damaged"):
        Shards(tmp_path, manifest)


def packed(folder: Path) -> pd.DataFrame:
    """A shard of six images of different lengths, and where they are."""
    for number in range(6):
        Image.fromarray(RAMP[: number + 2]).save(folder / f"{number}.png")
    places = pack([(f"train/{n}", folder / f"{n}.png") for n in range(6)], folder, shard_bytes=1 << 20)
    return pd.DataFrame(list(places), columns=["image_id", "shard", "row"])


def test_a_flipped_bit_of_a_shard_shows_another_image_or_ends_in_a_traceback(tmp_path: Path) -> None:
    manifest, path = packed(tmp_path), tmp_path / "00000.arrow"
    whole = path.read_bytes()
    first = (tmp_path / "0.png").read_bytes()
    expected = [Image.open(tmp_path / f"{n}.png").convert("RGB").tobytes() for n in range(6)]
    refused = 0
    for at in range(8, whole.index(first)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            shards = Shards(tmp_path, manifest)
            assert [shards.decode("00000.arrow", n, f"train/{n}").tobytes() for n in range(6)] == expected, at
        except (ArtifactError, DataError):
            refused += 1
    assert refused > 10


def test_a_shard_of_an_earlier_version_is_read_as_one_of_this(tmp_path: Path) -> None:
    manifest, path = packed(tmp_path), tmp_path / "00000.arrow"
    batch = pa.ipc.open_file(path.read_bytes()).get_batch(0)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        for row in range(len(batch)):
            writer.write_batch(batch.slice(row, 1))
    with pytest.raises(ArtifactError, match="of another version; dvc repro -f -s ingest packs it anew"):
        Shards(tmp_path, manifest)
