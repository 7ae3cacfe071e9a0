"""JPEGs decoded and resized on a GPU, many at a time, where a processor's cores would keep it waiting.

nvJPEG rounds otherwise than Pillow's decoder. What is turned by its EXIF data, coded in colours of another kind, or no
JPEG at all is left to Pillow.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

METHOD = 2  # raised where this code comes to make other pixels of the same file
MAGIC = b"\xff\xd8\xff"
HEAD = 2**16  # bytes in which a JPEG's header says what it has to say
FRAMES = (0xC0, 0xC1, 0xC2)  # of pixels that are coded by Huffman's way, in one pass or several
SCAN, CAMERA, ADOBE = 0xDA, 0xE1, 0xEE
TELLING = {*FRAMES, SCAN, CAMERA, ADOBE}
PIXELS = 2**26  # that are decoded together at most, so that large photographs do not fill the memory
# Bytes left of a GPU's memory, beside eight a pixel, below which nvJPEG is taken to have lacked memory.
FULL = 2**28


class Jpeg(NamedTuple):
    """A file that a GPU may decode, uint8, and how many pixels it has."""

    data: Tensor
    pixels: int


def opened(data: memoryview) -> Jpeg | None:
    """A copy of the file in memory, where a GPU may decode it.

    NumPy copies, and so reads, without Python's lock: threads read several files at a time.
    """
    if bytes(data[:3]) != MAGIC:
        return None
    copied = np.frombuffer(data, dtype=np.uint8).copy()
    pixels = size(copied.data)
    return Jpeg(torch.from_numpy(copied), pixels) if pixels else None


def size(data: memoryview) -> int:
    """The pixels of a JPEG that a GPU may decode, 0 for any other file.

    It must be in 8 bits, gray or in the colours that JPEGs usually are in, and upright whoever says so.
    """
    if bytes(data[:3]) != MAGIC:
        return 0
    segments = list(_segments(data[:HEAD]))
    frames = [content for marker, content in segments if marker in FRAMES]
    notes = [content for marker, content in segments if marker == CAMERA]
    if len(frames) != 1 or len(frames[0]) < 9 or segments[-1][0] != SCAN or not _usual(frames[0], segments):
        return 0
    exif = [note for note in notes if note.startswith(b"Exif\0\0")]
    if len(exif) > 1 or any(b"tiff:Orientation" in note for note in notes) or not all(map(_upright, exif)):
        return 0
    return int.from_bytes(frames[0][1:3]) * int.from_bytes(frames[0][3:5])


def _segments(head: memoryview) -> Iterator[tuple[int, bytes]]:
    """The header's telling parts, marker and content, to the first scan of pixels."""
    at, marker = 2, 0
    while marker != SCAN and at + 4 <= len(head) and head[at] == 0xFF:
        marker, end = head[at + 1], at + 2 + 256 * head[at + 2] + head[at + 3]
        if marker in TELLING:
            yield marker, bytes(head[at + 4 : end])
        at = end


def _usual(frame: bytes, segments: list[tuple[int, bytes]]) -> bool:
    """Whether the frame is gray, or of brightness and two differences of colour."""
    adobe = [content[11:12] for marker, content in segments if marker == ADOBE and content.startswith(b"Adobe")]
    coloured = frame[5] == 3 and frame[6:15:3] != b"RGB" and all(transform == b"\1" for transform in adobe)
    return frame[0] == 8 and (frame[5] == 1 or coloured)


def _upright(data: bytes) -> bool:
    exif = Image.Exif()
    try:
        exif.load(data)
        return bool(exif.get(ExifTags.Base.Orientation, 1) == 1)
    except Exception:  # whatever Pillow raises on damaged data; its own decoder then decides
        return False


def decode(encoded: Sequence[Jpeg], resize: Callable[[Tensor], Tensor], device: str) -> list[Tensor | None]:
    """Each JPEG as a network's input, uint8 (H, W, 3) on the device; None for what cannot be decoded there.

    `resize` takes images of one size, uint8 (n, 3, H, W).
    """
    found: list[Tensor | None] = []
    for piece in _pieces(encoded):
        found += _resized(_read(piece, device), resize)
    return found


def _pieces(encoded: Sequence[Jpeg]) -> Iterator[list[Jpeg]]:
    piece: list[Jpeg] = []
    pixels = 0
    for jpeg in encoded:
        if piece and pixels + jpeg.pixels > PIXELS:
            yield piece
            piece, pixels = [], 0
        piece.append(jpeg)
        pixels += jpeg.pixels
    if piece:
        yield piece


def _read(encoded: list[Jpeg], device: str) -> list[Tensor | None]:
    """Together, or one by one where one of them cannot be read: an image's pixels must not depend on its neighbours."""
    if device != "cpu":
        # NvJPEG writes on a stream of its own, into memory that what is still to be done on this one may be reading.
        # No other thread may use this one meanwhile.
        torch.cuda.current_stream().synchronize()
    try:
        with warnings.catch_warnings(action="ignore"):  # of its successor, a package of its own
            return list(decode_jpeg([jpeg.data for jpeg in encoded], mode=ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if device != "cpu":
            torch.cuda.empty_cache()  # what torch keeps for itself nvJPEG cannot have
        if len(encoded) == 1:
            if _full(device, encoded[0].pixels):  # it says no more than that it failed
                raise torch.OutOfMemoryError(str(error)) from error
            return [None]
        return [image for one in encoded for image in _read([one], device)]


def _full(device: str, pixels: int) -> bool:
    return device != "cpu" and torch.cuda.mem_get_info()[0] < FULL + 8 * pixels


def _resized(images: list[Tensor | None], resize: Callable[[Tensor], Tensor]) -> list[Tensor | None]:
    """Images of one size go together."""
    alike: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        if image is not None:
            alike.setdefault(image.shape, []).append(number)
    found: list[Tensor | None] = [None] * len(images)
    for numbers in alike.values():
        stacked = torch.stack([image for number in numbers if (image := images[number]) is not None])
        for number, row in zip(numbers, resize(stacked).permute(0, 2, 3, 1).contiguous(), strict=True):
            found[number] = row
    return found
