"""Of the worst mistakes: where a fine-tuned network found what it predicts, laid over the image."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from PIL import Image

from goulot import layout
from goulot.artifacts import read_table
from goulot.reporting.finished import Run
from goulot.reporting.page import jpeg

STRENGTH = 0.5


def overlays(run: Run, image_ids: Sequence[str], side: int) -> tuple[str, list[str]]:
    """The best fine-tuned network that can tell, by its name, and data URIs of the images with its maps over them."""
    board = run.board.sort_values(run.metric.name, ascending=not run.metric.greater_is_better)
    for name in board["learner"].astype(str):
        path = layout.attention(name.partition("@")[2])
        if name.startswith("finetune@") and path.is_file():
            maps = read_table(path).set_index("image_id")
            if maps.index.isin(image_ids).sum() == len(image_ids):
                shown = zip(run.pictures(image_ids, side), maps.loc[[*image_ids]].itertuples(index=False), strict=True)
                return name, [jpeg(lay(image, *row), 75) for image, row in shown]
    return "", []


def lay(image: Image.Image, height: int, width: int, values: bytes) -> Image.Image:
    """The image under a map of bytes, row by row: dark where it is 0, bright where it is 255."""
    grid = Image.fromarray(np.frombuffer(values, dtype=np.uint8).reshape(height, width))
    smooth = np.asarray(grid.resize(image.size, Image.Resampling.BICUBIC))
    colours = (mpl.colormaps["magma"](smooth)[..., :3] * 255).astype(np.uint8)
    return Image.blend(image.convert("RGB"), Image.fromarray(colours), STRENGTH)
