"""What the sections tell of: the outputs of a finished run, read once."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from goulot import decisions, layout, metrics, truth
from goulot.artifacts import read_json, read_table
from goulot.images import Shards
from goulot.metrics import Metric
from goulot.reporting import uncertainty
from goulot.reporting.page import Thumbnail, jpeg
from goulot.truth import Truth

THREADS = 2
ERRORS = 100_000  # of a member, evenly spread: enough for a correlation


@dataclass(frozen=True)
class Judged:
    """A member's score by the chosen metric: its standard error, the scores of the folds, and the errors made."""

    error: float
    by_fold: dict[int, float]
    errors: np.ndarray


@dataclass(frozen=True)
class Run:
    """known: the training images. p: the blend's out-of-fold predictions of them, float32 (images, names)."""

    manifest: pd.DataFrame
    known: Truth
    board: pd.DataFrame
    metric: Metric
    p: np.ndarray

    @property
    def members(self) -> list[str]:
        """The learners, as the leaderboard names them."""
        return [str(name) for name in self.board["learner"] if name != "blend"]

    @property
    def shown(self) -> list[Metric]:
        """The leaderboard's metrics, the chosen one first."""
        names = [str(name) for name in self.board.columns if name not in ("learner", "weight")]
        return [
            metrics.of(name, self.known.target) for name in sorted(names, key=lambda name: name != self.metric.name)
        ]

    def score(self, name: str, metric: Metric) -> float:
        """As the leaderboard has it."""
        return float(self.board.loc[self.board["learner"] == name, metric.name].iloc[0])

    @cached_property
    def judged(self) -> dict[str, Judged]:
        """The blend and each learner; one's predictions are in memory at a time."""
        return {name: self._judge(name) for name in ("blend", *self.members)}

    def _judge(self, name: str) -> Judged:
        y, fold, group = self.known.y, self.known.fold, self.known.images["group"].to_numpy()
        p = self.predictions(name)
        taken = self.taken if name == "blend" else self._taken(p)
        wrong = 1 - p[np.arange(len(y)), y] if self.known.target.exclusive else (p - y).ravel()
        spread = np.unique(np.linspace(0, len(wrong) - 1, ERRORS).astype(int))
        error = uncertainty.error(self.metric, y, taken, group)
        return Judged(error, uncertainty.by_fold(self.metric, y, taken, fold), wrong[spread])

    def predictions(self, name: str) -> np.ndarray:
        """Out of fold, of the blend or a learner, float32 (images, names)."""
        return self.p if name == "blend" else _predictions(folder(name) / "oof.parquet", self.known)

    def _taken(self, p: np.ndarray) -> np.ndarray:
        """What the metric takes: predictions, or decisions by rules tuned for each fold on the other folds' rows."""
        known = self.known
        return decisions.cross(self.metric, known.target, known.y, p, known.fold) if self.metric.decides else p

    @cached_property
    def taken(self) -> np.ndarray:
        """What the chosen metric takes of the blend."""
        return self.guesses if self.metric.decides and self.known.target.exclusive else self._taken(self.p)

    @cached_property
    def guesses(self) -> np.ndarray:
        """The blend's decisions in the form of the truth; of classes, those that `blend` took by nested rules."""
        target = self.known.target
        if target.exclusive:
            pairs = pd.read_csv(layout.CONFUSION, dtype=str, keep_default_na=False)
            number = {name: i for i, name in enumerate(target.names)}
            return pairs["predicted"].map(number).to_numpy(dtype=int)
        return self.taken if self.metric.decides else decisions.plain(self.metric, target).decide(self.p)

    def said(self, values: np.ndarray) -> str:
        """A row's truth, or decision, in words."""
        target = self.known.target
        if target.exclusive:
            return target.names[int(values)]
        if target.task == "multilabel":
            return ", ".join(n for n, v in zip(target.names, values, strict=True) if v > 0.5) or "none"
        return ", ".join(f"{n} {v:.4g}" for n, v in zip(target.names, values, strict=True))

    @cached_property
    def kinds(self) -> list[str]:
        """What the training images are told apart by: classes, labels, or fifths of the first number."""
        if self.known.target.task != "regression":
            return self.known.target.names
        return [f"{self.known.target.names[0]} {a:.4g} to {b:.4g}" for a, b in pairwise(self._edges)]

    @cached_property
    def counts(self) -> np.ndarray:
        """The training images of each kind."""
        y = self.known.y
        if self.known.target.task == "multilabel":
            return np.asarray(y.sum(axis=0).astype(int))
        return np.bincount(y if self.known.target.exclusive else self._fifth, minlength=len(self.kinds))

    def inside(self, kind: int) -> np.ndarray:
        """Which training images are of a kind, bool (images,)."""
        y, target = self.known.y, self.known.target
        if target.task == "multilabel":
            return np.asarray(y[:, kind] == 1)
        return np.asarray((y if target.exclusive else self._fifth) == kind)

    @cached_property
    def _edges(self) -> np.ndarray:
        return np.asarray(np.quantile(self.known.y[:, 0], np.linspace(0, 1, 6)))

    @property
    def _fifth(self) -> np.ndarray:
        return np.searchsorted(self._edges[1:-1], self.known.y[:, 0])

    @cached_property
    def _shards(self) -> Shards:
        return Shards(layout.SHARDS, self.manifest)

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        places = zip(self.manifest["shard"], self.manifest["row"].tolist(), strict=True)
        return dict(zip(self.manifest["image_id"], places, strict=True))

    def pictures(self, image_ids: Iterable[str], side: int) -> list[Image.Image]:
        """The images, scaled down to fit a square."""
        shards, places = self._shards, self._places

        def small(image_id: str) -> Image.Image:
            image = shards.decode(*places[image_id], image_id)
            image.thumbnail((side, side))
            return image

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(small, image_ids))

    def thumbnails(self, image_ids: Sequence[str], notes: Sequence[str], side: int = 112) -> list[Thumbnail]:
        """The images with their names and notes."""
        shown = zip(self.pictures(image_ids, side), image_ids, notes, strict=True)
        return [Thumbnail(jpeg(image, 75), name.partition("/")[2], note) for image, name, note in shown]


def read() -> Run:
    """A finished run. Raises ArtifactError naming the stage whose output is missing."""
    known = truth.read().train
    metric = metrics.of(str(read_json(layout.BLEND_RULE)["metric"]), known.target)
    board = pd.read_csv(layout.LEADERBOARD)
    return Run(read_table(layout.MANIFEST), known, board, metric, _predictions(layout.BLEND_OOF, known))


def folder(name: str) -> Path:
    """Where a member of the leaderboard lies."""
    kind, _, network = name.partition("@")
    return layout.finetuned(network) if kind == "finetune" and network else layout.learned(name)


def _predictions(path: Path, known: Truth) -> np.ndarray:
    """In the order of the images, float32 (images, names)."""
    table = read_table(path).set_index("image_id")[known.target.outputs]
    return table.loc[known.images["image_id"]].to_numpy(dtype=np.float32)
