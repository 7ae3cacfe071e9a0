"""Whole maps as bytes, a row each: half precision or 8 bits with a scale per channel, compressed where that pays."""

from typing import Literal

import numpy as np
import pyarrow as pa

Form = Literal["float16", "int8"]

LEVEL = 3  # of zstd: higher ones gain a few per cent and cost several times as long
PAYS = 0.9  # of the plain size; a dense map shrinks less and stays as it is, quicker to read
PLAIN, PACKED = b"\0", b"\1"


def encode(maps: np.ndarray, form: Form) -> list[bytes]:
    """Maps, finite float32 (B, C, H, W), to bytes each; what a row becomes does not depend on the others.

    int8 rounds to 1/127 of the channel's largest absolute value in this image; the scales stand before the values.
    """
    if form == "float16":
        return [_pack(row.tobytes()) for row in maps.astype(np.float16)]
    scales = np.abs(maps).max(axis=(2, 3)).astype(np.float32) / np.float32(127)
    scales[scales < np.finfo(np.float32).tiny] = 0  # a subnormal one is too coarse to divide by
    safe = np.where(scales > 0, scales, np.float32(1))
    values = np.rint(maps / safe[:, :, None, None]).astype(np.int8)
    return [_pack(scale.tobytes() + row.tobytes()) for scale, row in zip(scales, values, strict=True)]


def decode(data: bytes | memoryview, shape: tuple[int, int, int], form: Form) -> np.ndarray:
    """The map again, float32 (C, H, W)."""
    count = int(np.prod(shape))
    if form == "float16":
        return _unpack(data, 2 * count).view(np.float16).astype(np.float32).reshape(shape)
    raw = _unpack(data, 4 * shape[0] + count)
    scales, values = raw[: 4 * shape[0]].view(np.float32), raw[4 * shape[0] :].view(np.int8)
    return values.reshape(shape).astype(np.float32) * scales[:, None, None]


def _pack(raw: bytes) -> bytes:
    packed = pa.Codec("zstd", compression_level=LEVEL).compress(raw, asbytes=True)
    return PACKED + packed if len(packed) < PAYS * len(raw) else PLAIN + raw


def _unpack(data: bytes | memoryview, size: int) -> np.ndarray:
    kind, rest = bytes(data[:1]), data[1:]
    plain = pa.decompress(rest, size, codec="zstd", asbytes=True) if kind == PACKED else bytes(rest)
    return np.frombuffer(plain, dtype=np.uint8)
