"""Images: checked once, packed with their original bytes into shards that memory-map, decoded to RGB."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image, ImageOps, UnidentifiedImageError

from goulot.artifacts import atomic, sha256
from goulot.errors import ArtifactError, DataError

# Pillow's own limit against decompression bombs, made an error where Pillow would only warn.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485


class Checked(NamedTuple):
    """What `check` found out about an image, or why it cannot be used (`reason`; the rest is then empty)."""

    width: int = 0
    height: int = 0
    mode: str = ""
    sha256: str = ""
    reason: str = ""


def check(path: Path) -> Checked:
    """Decode an image to its last row and describe it; never raises for a bad file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Checked(reason=f"cannot be read: {error.strerror}")
    if not data:
        return Checked(reason="empty file")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                return Checked(reason=f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            image.load()
            return Checked(image.width, image.height, image.mode, sha256(data))
    except UnidentifiedImageError:
        return Checked(reason="not an image that Pillow knows")
    except Exception as error:  # Pillow's decoders raise whatever their format's code happens to raise
        return Checked(reason=f"damaged: {str(error)[:120] or type(error).__name__}")


def decode(data: memoryview | bytes) -> Image.Image:
    """Decode to an RGB image, upright.

    The EXIF orientation is applied; of an animation the first frame is taken; 16-bit gray is scaled to
    8 bits by its depth, floating-point gray by its own range; transparent pixels are laid on white; gray is repeated
    three times.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # else it copies what is upright
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB, as `decode` describes."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image), image.mode)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(pixels: "np.ndarray", mode: str) -> "np.ndarray":
    """Integers by their bit depth, so that two images stay comparable; floats by their range; no number is black."""
    values = pixels.astype(np.float64)
    if mode == "F":
        known = values[np.isfinite(values)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        values = np.where(np.isfinite(values), values, low)
    else:
        low, high = 0.0, 65535.0 if values.max() > 255 else 255.0
    return np.clip((values - low) * 255.0 / max(high - low, 1e-12), 0, 255).round().astype(np.uint8)


SCHEMA = pa.schema([("image_id", pa.string()), ("encoded", pa.large_binary())])


def pack(images: Iterable[tuple[str, Path]], folder: Path, *, shard_bytes: int) -> Iterator[tuple[str, str, int]]:
    """Pack files into `folder/00000.arrow`, ...; yield (image_id, shard, row) of each as it is written.

    A shard is an Arrow IPC file of one record batch: any row is read without its neighbours, and found at once.
    """
    ids: list[str] = []
    starts, data, number = [0], bytearray(), 0
    for image_id, path in images:
        content = path.read_bytes()
        if ids and len(data) + len(content) > shard_bytes:
            yield from _write_shard(folder / f"{number:05d}.arrow", ids, starts, data)
            ids, starts, data, number = [], [0], bytearray(), number + 1
        ids.append(image_id)
        data += content
        starts.append(len(data))
    if ids:
        yield from _write_shard(folder / f"{number:05d}.arrow", ids, starts, data)


def _write_shard(path: Path, ids: list[str], starts: list[int], data: bytearray) -> Iterator[tuple[str, str, int]]:
    """From the bytes as they lie: an array made of objects would copy them more than once."""
    buffers = [None, pa.py_buffer(np.array(starts, dtype=np.int64)), pa.py_buffer(data)]
    encoded = pa.Array.from_buffers(pa.large_binary(), len(ids), buffers)
    with (
        atomic(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        writer.write_batch(pa.record_batch([pa.array(ids, pa.string()), encoded], schema=SCHEMA))
    for row, image_id in enumerate(ids):
        yield image_id, path.name, row


class Shard(NamedTuple):
    """A file of packed images: whose they are, and where each begins in their bytes, the last one's end included."""

    ids: pa.StringArray
    starts: np.ndarray
    data: memoryview

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Map it; nothing of the images is read yet. Arrow raises errors of many kinds for a file that is damaged."""
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        (batch,) = map(file.get_batch, range(file.num_record_batches))
        batch.validate(full=True)
        if batch.schema != SCHEMA:
            raise ValueError(f"its columns are {batch.schema.names}")
        _, starts, data = batch["encoded"].buffers()
        found = cls(batch["image_id"], np.frombuffer(starts, dtype=np.int64)[: len(batch) + 1], memoryview(data))
        if found.starts[0] != 0 or found.starts[-1] != len(found.data):
            raise ValueError("its images do not begin and end where its bytes do")
        return found


class Shards:
    """Random access to packed images through memory maps; safe to share between threads."""

    def __init__(self, folder: Path, manifest: pd.DataFrame) -> None:
        self._shards = {}
        for name in manifest["shard"].unique():
            try:
                self._shards[name] = Shard.open(folder / name)
            except Exception as error:
                raise ArtifactError(
                    f"{folder / name} is missing or damaged, or of another version; "
                    "dvc repro -f -s ingest packs it anew"
                ) from error

    def decode(self, shard: str, row: int, image_id: str) -> Image.Image:
        """The decoded RGB image. Raises DataError if the row holds another image or cannot be decoded."""
        try:
            return decode(self.encoded(shard, row, image_id))
        except OSError as error:
            raise DataError(f"{image_id}: {error}") from error

    def size(self, shard: str, row: int) -> int:
        """The bytes of the image's file."""
        starts = self._shards[shard].starts
        return int(starts[row + 1] - starts[row])

    def encoded(self, shard: str, row: int, image_id: str) -> memoryview:
        """The image's file. Raises DataError if the row holds another image."""
        ids, starts, data = self._shards[shard]
        found = ids[row].as_py() if row < len(ids) else None
        if found != image_id:
            raise DataError(f"{shard} row {row} holds {found!r}, not {image_id!r}; dvc repro -f -s ingest")
        return data[starts[row] : starts[row + 1]]
