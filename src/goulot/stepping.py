"""How a network is trained, and the steps of it: one cycle, layers at rates of their own, averaged weights."""

from typing import Any, cast

from pydantic import Field
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from goulot.balance import ClassWeight
from goulot.params import Section
from goulot.pixels import Policy
from goulot.recipes import MapRecipe
from goulot.tails import Tail
from goulot.targets import Task
from goulot.training import Meter

FEW = 16  # rows: the statistics of so few would be noise, and those of ImageNet stay


class Whole(Section):
    """How the whole network is trained on from the images, after its end was; what is not said here is as there."""

    epochs: int = Field(8, ge=1, description="each shows a random view of every image, changed at random")
    batch: int = Field(32, ge=2, description="images a pass")
    accumulate: int = Field(1, ge=1, le=1024, description="passes whose gradients make a step")
    learning_rate: float = Field(3e-4, gt=0, description="largest rate of the network's last layer")
    classifier_rate: float = Field(3e-4, gt=0, description="largest rate of the classifier")
    layer_decay: float = Field(0.8, gt=0, le=1, description="a layer's rate in terms of the next one's")
    augment: Policy = Field("trivial", description="how a view is changed: none, trivial (TrivialAugment) or rand")
    mixup: float = Field(0.2, ge=0, description="alpha of mixup; 0 is none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix; 0 is none. Of both, each batch takes one")


class Recipe(MapRecipe):
    """A tap, and how what follows it is trained: AdamW, one cycle, the slower the further a layer is from the end."""

    epochs: int = Field(15, ge=0, description="each shows a random view of every image; 0 fits the classifier alone")
    batch: int = Field(32, ge=2, description="images a pass")
    accumulate: int = Field(1, ge=1, le=1024, description="passes whose gradients make a step")
    learning_rate: float = Field(1e-3, gt=0, description="largest rate of the network's last layer")
    classifier_rate: float = Field(2e-3, gt=0, description="largest rate of the classifier")
    layer_decay: float = Field(0.9, gt=0, le=1, description="a layer's rate in terms of the next one's")
    weight_decay: float = Field(0.05, ge=0)
    depthwise: bool = Field(
        True, description="train depthwise filters too, few weights whose gradients take a CPU a third of a step"
    )
    smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing of classes and labels")
    average: float = Field(2.0, ge=0, description="epochs that the moving average of the weights looks back; 0 is none")
    class_weight: ClassWeight | None = Field(
        None, description="balanced: rare classes and labels count as much as common ones"
    )
    probe: float = Field(0.001, gt=0, description="inverse ridge penalty of the classifier's first fit")
    members: int = Field(1, ge=1, le=50, description="networks trained from different seeds and averaged")
    whole: Whole | None = Field(
        None, description="train the whole network from the images afterwards; {} as its defaults say", examples=[{}]
    )


class Run:
    """A network being trained; `losses` are those of the epochs that are over, as a `Watch` has them."""

    def __init__(self, network: nn.Sequential, recipe: Recipe, task: Task, *, images: int) -> None:
        steps = max(1, images // (recipe.batch * recipe.accumulate))  # of an epoch
        self.batches = steps * recipe.accumulate  # of an epoch, all of one size
        self.epoch = 0
        self.meter, self.losses, self._task = Meter(task), list[tuple[int, float, float]](), task
        self._network, self._epochs = network, recipe.epochs
        self._optimizer = AdamW(_groups(network, recipe), fused=True)
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._schedule = OneCycleLR(self._optimizer, rates, total_steps=max(1, recipe.epochs * steps))
        decay = 1 - 1 / max(1.0, recipe.average * steps)
        mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(network, multi_avg_fn=mean, use_buffers=True)
        network.train()
        self._accumulate, self._passes = recipe.accumulate, 0
        if images < FEW * self.batches:
            for module in network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    @property
    def left(self) -> int:
        """Batches to go at the beginning of an epoch."""
        return (self._epochs - self.epoch) * self.batches

    def step(self, value: Tensor) -> None:
        """Follow a batch's loss, or gather it with those of the batches that make a step together."""
        (value / self._accumulate).backward()  # type: ignore[no-untyped-call]
        self._passes += 1
        if self._passes % self._accumulate:
            return
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule.step()
        self._average.update_parameters(self._network)

    def close_epoch(self, out_of_fold: float) -> None:
        """Note its losses."""
        self.epoch += 1
        self.losses.append((self.epoch, self.meter.mean(), out_of_fold))
        self.meter = Meter(self._task)

    def result(self) -> nn.Module:
        """The network with its averaged weights, for prediction."""
        return self._average.module.eval()

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on."""
        return {
            "epoch": self.epoch,
            "losses": self.losses,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.epoch, self.losses = state["epoch"], state["losses"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {"network": self._network, "optimizer": self._optimizer, "schedule": self._schedule,
                "average": self._average}  # fmt: skip


def _groups(network: nn.Sequential, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters with their rates: timm's grouping of the layers, the classifier by itself."""
    tail, classifier = cast(Tail, network[0]), network[1]
    groups = []
    if any(True for _ in tail.parameters()):
        groups = param_groups_layer_decay(tail.model, recipe.weight_decay, layer_decay=recipe.layer_decay)
    for group in groups:
        group["lr"] = recipe.learning_rate * group.pop("lr_scale")
    for parameter in classifier.parameters():
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        groups.append({"params": [parameter], "lr": recipe.classifier_rate, "weight_decay": decay})
    return groups
