"""What a stage will take for all images, from its runs on small cuts."""

from collections.abc import Sequence
from dataclasses import dataclass

from goulot.planning.trial import Run

# Stages whose memory grows with the images: they hold the stacked features. That of the others is bounded, and what
# a few images more took there is the allocator's doing.
GROWS = ("learn", "rank")


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes for all images. `varying` of the seconds grows with that power of an image's views."""

    stage: str
    seconds: float
    varying: float
    peak_bytes: int
    disk_bytes: int
    power: int = 1

    @property
    def verb(self) -> str:
        """The stage without its member."""
        return self.stage.partition("@")[0]

    @property
    def member(self) -> str:
        """Whose it is in a family of stages."""
        return self.stage.partition("@")[2]

    def with_views(self, share: float) -> float:
        """The seconds with so many times the rows, those of an image's own view included."""
        return self.seconds - (1 - share**self.power) * self.varying


def cost(stage: str, runs: Sequence[Run], images: int, *, power: int = 1, epochs: int = 1,
         by_view: bool = False) -> Cost:  # fmt: skip
    """Of a stage whose time grows with that power of the images, and by the epoch where it trains by epochs.

    `by_view`: it takes every view by itself.

    `runs` are of three growing cuts and again of the largest with one epoch more. The rates come from the two largest;
    the first, in which everything was loaded, says what comes on top whatever the number of images.
    """
    first, middle, last, longer = runs
    each = _rate(first=middle.seconds, second=last.seconds, over=last.images**power - middle.images**power)
    epoch = _rate(first=last.seconds, second=longer.seconds, over=last.images)
    fixed = max(first.seconds - each * first.images**power, 0.0)
    varying = each * images**power + epoch * images * max(epochs - 1, 0)
    more = images - last.images
    memory = _rate(first=middle.peak_bytes, second=last.peak_bytes, over=last.images - middle.images)
    disk = _rate(first=middle.disk_bytes, second=last.disk_bytes, over=last.images - middle.images)
    grown = memory * more if stage.partition("@")[0] in GROWS else 0.0
    return Cost(stage, fixed + varying, varying if by_view else 0.0, round(last.peak_bytes + grown),
                round(last.disk_bytes + disk * more), power)  # fmt: skip


def _rate(*, first: float, second: float, over: float) -> float:
    """By how much something grew, never below nothing; cuts of equal size tell nothing."""
    return max(second - first, 0.0) / over if over > 0 else 0.0
