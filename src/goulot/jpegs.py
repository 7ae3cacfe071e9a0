"""JPEGs decoded and resized on a GPU, many at a time, where a processor's cores would keep it waiting.

nvJPEG rounds otherwise than Pillow's decoder. What is turned by its EXIF data, coded in colours of another kind, or no
JPEG at all is left to Pillow.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

HEAD = 2**16  # bytes in which a JPEG's header says what it has to say
AT_ONCE = 64  # images that are decoded together ...
PIXELS = 2**26  # ... and pixels that are resized together, so that large photographs do not fill the memory


def plain(data: memoryview) -> bool:
    """Whether these bytes are a JPEG that a GPU may decode."""
    if bytes(data[:3]) != b"\xff\xd8\xff":
        return False
    head = bytes(data[:HEAD])
    frame = next((head[at:] for at in _frames(head)), b"")
    adobe, exif = head.find(b"Adobe\0"), head.find(b"Exif\0\0")
    components = frame[9:10]
    known = components == b"\1" or (components == b"\3" and (adobe < 0 or head[adobe + 11 : adobe + 12] == b"\1"))
    return known and (exif < 0 or _upright(head[exif:]))


def _frames(head: bytes) -> Iterator[int]:
    """Where the header's frame begins, 8-bit and coded by Huffman's way; nowhere where it is of another kind."""
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        if head[at + 1] in (0xC0, 0xC1, 0xC2) and head[at + 4] == 8:
            yield at
        at += 2 + int.from_bytes(head[at + 2 : at + 4])


def _upright(data: bytes) -> bool:
    exif = Image.Exif()
    try:
        exif.load(data)
        return bool(exif.get(ExifTags.Base.Orientation, 1) == 1)
    except Exception:  # whatever Pillow raises on damaged data; its own decoder then decides
        return False


def decode(encoded: Sequence[memoryview], resize: Callable[[Tensor], Tensor], device: str) -> list[Tensor | None]:
    """Each JPEG as a network's input, uint8 (H, W, 3) on the device; None for what cannot be decoded there.

    `resize` takes images of one size, uint8 (n, 3, H, W).
    """
    found: list[Tensor | None] = []
    for start in range(0, len(encoded), AT_ONCE):
        images = _read([torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in encoded[start:][:AT_ONCE]],
                       device)  # fmt: skip
        found += _resized(images, resize)
    return found


def _read(encoded: list[Tensor], device: str) -> list[Tensor | None]:
    """Together, or one by one where one of them cannot be read: an image's pixels must not depend on its neighbours."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of its successor, a package of its own
            return list(decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        if len(encoded) == 1:
            return [None]
        return [image for one in encoded for image in _read([one], device)]


def _resized(images: list[Tensor | None], resize: Callable[[Tensor], Tensor]) -> list[Tensor | None]:
    """Images of one size go together."""
    alike: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        if image is not None:
            alike.setdefault(image.shape, []).append(number)
    found: list[Tensor | None] = [None] * len(images)
    for shape, numbers in alike.items():
        step = max(1, PIXELS // (shape[1] * shape[2]))
        for some in (numbers[at : at + step] for at in range(0, len(numbers), step)):
            stacked = torch.stack([image for number in some if (image := images[number]) is not None])
            for number, row in zip(some, resize(stacked).permute(0, 2, 3, 1), strict=True):
                found[number] = row
    return found
