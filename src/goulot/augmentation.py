"""Views: what augmentation does to an image, written down before it is done.

A view is a row of parameters. View 0 is the identity. The others are drawn from a policy with a generator that is
seeded by the image's content, so that every backbone sees the same view and a new image or a new view changes no
other one.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from goulot.errors import ParamsError, choices


@dataclass(frozen=True)
class View:
    """The parameters of one view, in the order in which they apply; the defaults are the identity."""

    left: float = 0.0  # the crop, in shares of width and height
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    angle: float = 0.0  # degrees, counter-clockwise; corners are filled by their nearest edge
    brightness: float = 1.0  # factors, as Pillow's ImageEnhance has them
    contrast: float = 1.0
    saturation: float = 1.0
    noise: float = 0.0  # standard deviation of Gaussian noise, in shares of the full range
    noise_seed: int = 0
    quarter_turns: int = 0  # counter-clockwise, after the network's own resize and crop
    flip: bool = False  # left to right, after the turns

    @cached_property
    def posed(self) -> bool:
        """Whether nothing but turns and flips makes it."""
        return self == View(quarter_turns=self.quarter_turns, flip=self.flip)


@dataclass(frozen=True)
class Policy:
    """What views may do; ranges are symmetric."""

    turns: bool = False
    flips: bool = False
    crop: float = 0.0  # largest share of each side that is cut away
    angle: float = 0.0
    colour: float = 0.0
    noise: float = 0.0


POLICIES = {
    "flip": Policy(flips=True),
    "dihedral": Policy(turns=True, flips=True),
    "light": Policy(flips=True, crop=0.15, angle=8.0, colour=0.1),
    "strong": Policy(turns=True, flips=True, crop=0.3, angle=20.0, colour=0.3, noise=0.03),
}


def find_policy(name: str) -> Policy:
    """The policy of that name. Raises ParamsError listing the known ones."""
    if name not in POLICIES:
        raise ParamsError(choices("policy", name, POLICIES, "augment.policy may be"))
    return POLICIES[name]


def draw(policy: Policy, content: str, *, views: int, seed: int) -> Iterator[View]:
    """Yield the identity and then `views` views of the image whose content hash (hex) is given.

    Flips and turns are dealt without repetition, the identity among them last, as long as there are any left.
    """
    yield View()
    key = [seed, *np.frombuffer(bytes.fromhex(content)[:16], dtype=np.uint32).tolist()]
    poses = list(product(range(4 if policy.turns else 1), (False, True) if policy.flips else (False,)))
    order = np.random.default_rng(key).permutation(len(poses) - 1) + 1
    dealt = [poses[i] for i in [*order, 0]]
    for number in range(1, views + 1):
        turns, flip = dealt[(number - 1) % len(dealt)]
        yield _vary(policy, np.random.default_rng([*key, number]), turns, flip)


def _vary(policy: Policy, rng: np.random.Generator, turns: int, flip: bool) -> View:
    cut_x, cut_y = rng.uniform(0, policy.crop, 2).tolist()
    left, top = rng.uniform(0, cut_x), rng.uniform(0, cut_y)
    brightness, contrast, saturation = (1 + rng.uniform(-policy.colour, policy.colour, 3)).tolist()
    return View(
        left=round(left, 6),
        top=round(top, 6),
        right=round(1 - cut_x + left, 6),
        bottom=round(1 - cut_y + top, 6),
        angle=round(rng.uniform(-policy.angle, policy.angle), 6),
        brightness=round(brightness, 6),
        contrast=round(contrast, 6),
        saturation=round(saturation, 6),
        noise=round(rng.uniform(0, policy.noise), 6),
        noise_seed=int(rng.integers(2**31)) if policy.noise else 0,
        quarter_turns=turns,
        flip=flip,
    )


def table(image_ids: list[str], contents: list[str], policy: Policy, *, views: int, seed: int) -> pd.DataFrame:
    """The view plan: image_id, view and the fields of View, one row a view, images in the order given."""
    rows = [
        {"image_id": image_id, "view": number, **asdict(view)}
        for image_id, content in zip(image_ids, contents, strict=True)
        for number, view in enumerate(draw(policy, content, views=views, seed=seed))
    ]
    return pd.DataFrame(rows, columns=["image_id", "view", *View.__dataclass_fields__])


def views_of(plan: pd.DataFrame) -> list[View]:
    """The rows of a plan as views; rows that are alike share one."""
    columns = [plan[name].tolist() for name in View.__dataclass_fields__]
    made = cache(View)
    return [made(*values) for values in zip(*columns, strict=True)]


def before_resize(image: Image.Image, view: View) -> Image.Image:
    """Crop, rotate and recolour a decoded RGB image; returns the image itself where nothing is to be done."""
    box = (view.left, view.top, view.right, view.bottom)
    if box != (0.0, 0.0, 1.0, 1.0):
        scaled = [round(v * s) for v, s in zip(box, image.size * 2, strict=True)]
        left, top = min(scaled[0], image.width - 1), min(scaled[1], image.height - 1)
        image = image.crop((left, top, max(scaled[2], left + 1), max(scaled[3], top + 1)))
    if view.angle:
        image = _rotate(image, view.angle)
    for factor, enhance in (
        (view.brightness, ImageEnhance.Brightness),
        (view.contrast, ImageEnhance.Contrast),
        (view.saturation, ImageEnhance.Color),
    ):
        if factor != 1.0:
            image = enhance(image).enhance(factor)
    return image


def _rotate(image: Image.Image, angle: float) -> Image.Image:
    """Rotate about the centre; the corners repeat the edge, since black ones would be a feature of their own."""
    margin = int(np.ceil(max(image.size) * 0.3)) if abs(angle) > 1e-6 else 0
    padded = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
    turned = padded.rotate(angle, resample=Image.Resampling.BILINEAR)
    return turned.crop((margin, margin, margin + image.width, margin + image.height))


def after_resize(pixels: np.ndarray, view: View) -> np.ndarray:
    """Add noise, turn and flip the network's square input, uint8 (H, W, 3)."""
    if view.noise:
        rng = np.random.default_rng(view.noise_seed)
        noisy = pixels + rng.normal(0, view.noise * 255, pixels.shape)
        pixels = np.clip(noisy.round(), 0, 255).astype(np.uint8)
    pixels = np.rot90(pixels, view.quarter_turns)
    return pixels[:, ::-1] if view.flip else pixels


def show(image: Image.Image, view: View) -> Image.Image:
    """The whole view as a picture of the image's own size, for people."""
    return Image.fromarray(np.ascontiguousarray(after_resize(np.asarray(before_resize(image, view)), view)))
