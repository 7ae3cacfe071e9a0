"""Which networks, depths and views to keep so that a run ends in time and fits the disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from goulot.planning.estimate import Cost

Lean = tuple[tuple[str, ...], float]  # depths, and the bytes that leaving out the others saves


@dataclass(frozen=True)
class Choice:
    """A run: its networks, views beside the image itself, whether networks are fine-tuned, depths of each network.

    `taps` is empty where all depths stay.
    """

    backbones: tuple[str, ...]
    views: int
    finetune: bool
    taps: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Plan:
    """What can be chosen from: the costs of everything that params.yaml asks for, and what it asks for.

    backbones: from the best to the worst. needed: those that stay, for `audit` and learners on maps; trained: those
    that fine-tuning reads. lean: the depths worth stacking of those networks that have others.
    """

    costs: Sequence[Cost]
    backbones: Sequence[str]
    needed: frozenset[str]
    trained: frozenset[str]
    views: int
    lean: Mapping[str, Lean]

    def best(self, *, seconds: float, disk_bytes: float) -> Choice | None:
        """The richest run within the limits, None where none is.

        Fine-tuning goes last, being the strongest learner by itself, then the last augmented view, then a network.
        """
        fitting = (c for c in self._choices() if self.seconds(c) <= seconds and self.disk_bytes(c) <= disk_bytes)
        return next(fitting, None)

    def all(self) -> Choice:
        """What params.yaml asks for."""
        return Choice(tuple(self.backbones), self.views, any(c.verb == "finetune" for c in self.costs), {})

    def least(self) -> Choice:
        """The run that costs least."""
        return min(self._choices(), key=lambda choice: (self.seconds(choice), self.disk_bytes(choice)))

    def seconds(self, choice: Choice) -> float:
        """Of all stages, one after the other."""
        share = (choice.views + 1) / (self.views + 1)
        return sum(cost.with_views(share) for cost in self._costs(choice))

    def disk_bytes(self, choice: Choice) -> float:
        """Of what the stages write, the feature store among it."""
        share = (choice.views + 1) / (self.views + 1)
        total = 0.0
        for cost in self._costs(choice):
            if cost.verb == "extract":
                saved = self.lean[cost.member][1] if cost.member in choice.taps else 0.0
                total += share * (cost.disk_bytes - saved)
            else:
                total += cost.disk_bytes
        return total

    def _costs(self, choice: Choice) -> Iterator[Cost]:
        for cost in self.costs:
            if cost.verb == "extract" and cost.member not in choice.backbones:
                continue
            if cost.verb == "finetune" and not choice.finetune:
                continue
            yield cost

    def _choices(self) -> list[Choice]:
        """From the richest on."""
        found = []
        for finetune in {self.all().finetune, False}:
            needed = self.needed | (self.trained if finetune else frozenset())
            order = sorted(self.backbones, key=lambda name: name not in needed)  # stable: the best first
            for count in range(max(len(needed), 1), len(order) + 1):
                kept = tuple(name for name in self.backbones if name in order[:count])
                lean = {name: self.lean[name][0] for name in kept if name in self.lean}
                found += [Choice(kept, views, finetune, taps) for views in range(self.views + 1)
                          for taps in ([{}, lean] if lean else [{}])]  # fmt: skip
        return sorted(found, key=_richness, reverse=True)


def _richness(choice: Choice) -> tuple[bool, bool, int, int, bool]:
    """Fine-tuning, an augmented view, networks, more views, all depths: the first that differ decide."""
    return choice.finetune, choice.views > 0, len(choice.backbones), choice.views, not choice.taps
