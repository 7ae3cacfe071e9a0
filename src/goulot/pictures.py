"""Pictures for people: sheets of captioned thumbnails."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from goulot.artifacts import write_bytes

THUMBNAIL, CAPTION, GAP = 144, 18, 6


def sheet(rows: Sequence[Sequence[tuple[Image.Image, str]]], path: Path) -> None:
    """Write a PNG of rows of thumbnails, its caption of one or more lines below each; rows may differ in length."""
    columns = max((len(row) for row in rows), default=1)
    height = THUMBNAIL + GAP + CAPTION * max((caption.count("\n") + 1 for row in rows for _, caption in row), default=1)
    size = (columns * (THUMBNAIL + GAP) + GAP, max(len(rows), 1) * height + GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=11)
    for y, row in enumerate(rows):
        for x, (image, caption) in enumerate(row):
            left, top = GAP + x * (THUMBNAIL + GAP), GAP + y * height
            thumbnail = image.convert("RGB")
            thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
            canvas.paste(thumbnail, (left, top))
            for number, line in enumerate(caption.split("\n")):
                draw.text((left, top + THUMBNAIL + 2 + number * CAPTION), line[:26], fill="black", font=font)
    write_bytes(path, lambda file: canvas.save(file, "PNG"))
