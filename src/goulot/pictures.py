"""Pictures for people: sheets of captioned thumbnails."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from goulot.artifacts import write_bytes

THUMBNAIL, CAPTION, GAP = 144, 18, 6


def sheet(rows: Sequence[Sequence[tuple[Image.Image, str]]], path: Path) -> None:
    """Write a PNG of rows of thumbnails, each with its caption below it; rows may differ in length."""
    columns = max((len(row) for row in rows), default=1)
    size = (columns * (THUMBNAIL + GAP) + GAP, max(len(rows), 1) * (THUMBNAIL + CAPTION + GAP) + GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=11)
    for y, row in enumerate(rows):
        for x, (image, caption) in enumerate(row):
            left, top = GAP + x * (THUMBNAIL + GAP), GAP + y * (THUMBNAIL + CAPTION + GAP)
            thumbnail = image.convert("RGB")
            thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
            canvas.paste(thumbnail, (left, top))
            draw.text((left, top + THUMBNAIL + 2), caption[:26], fill="black", font=font)
    write_bytes(path, lambda file: canvas.save(file, "PNG"))
