"""Fine-tuning: a classifier fitted on a network's features, then trained on together with the network's last blocks.

Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR 2022: a
classifier that already fits (LP) spares the blocks (FT) what a random one would do to them at first.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from pydantic import Field
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from goulot import balance, probes
from goulot.balance import ClassWeight
from goulot.checkpoints import Checkpoints
from goulot.errors import ParamsError
from goulot.learners import Context
from goulot.progress import track
from goulot.recipes import MapRecipe, MapRows, Watch
from goulot.tails import Tail
from goulot.targets import Task
from goulot.training import Meter, as_targets, as_weights, loss, output

Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]

PREDICTED = 64  # rows at a time
FEW = 16  # rows: the statistics of so few would be noise, and those of ImageNet stay


class Recipe(MapRecipe):
    """A tap, and how what follows it is trained: AdamW, one cycle, the slower the further a layer is from the end."""

    epochs: int = Field(15, ge=0, description="each shows a random view of every image; 0 fits the classifier alone")
    batch: int = Field(32, ge=2, description="images a step")
    learning_rate: float = Field(1e-3, gt=0, description="largest rate of the network's last layer")
    classifier_rate: float = Field(2e-3, gt=0, description="largest rate of the classifier")
    layer_decay: float = Field(0.9, gt=0, le=1, description="a layer's rate in terms of the next one's")
    weight_decay: float = Field(0.05, ge=0)
    smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing of classes and labels")
    average: float = Field(2.0, ge=0, description="epochs that the moving average of the weights looks back; 0 is none")
    class_weight: ClassWeight | None = Field(
        None, description="balanced: rare classes and labels count as much as common ones"
    )
    probe: float = Field(0.001, gt=0, description="inverse ridge penalty of the classifier's first fit")
    members: int = Field(1, ge=1, le=50, description="networks trained from different seeds and averaged")


def place(wanted: Device) -> torch.device:
    """Where the training runs. Raises ParamsError where a GPU is wanted and there is none."""
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise ParamsError("finetune.device is cuda, but torch finds no GPU; set it to auto or cpu")
    return torch.device("cuda" if found and wanted != "cpu" else "cpu")


def dtype(wanted: Precision, tail: nn.Module, device: torch.device) -> torch.dtype:
    """What the layers compute in; the weights and their steps are float32 throughout.

    `auto` is bfloat16 where the device computes in it, unless, on a CPU, the tail has depthwise convolutions: their
    gradients take oneDNN several times as long in it (5 x 5 ones, measured on a CPU with AVX512-BF16: 4 to 9 times).
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        able = torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        native = able and not any(
            isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in tail.modules()
        )  # fmt: skip
    return torch.bfloat16 if (native if wanted == "auto" else wanted == "bfloat16") else torch.float32


class Views:
    """Maps of the views of images; `image` tells the rows' images apart, int (rows,)."""

    def __init__(self, maps: MapRows, image: np.ndarray) -> None:
        self.maps, self.image, self.shape = maps, image, maps.shape

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, rows: np.ndarray) -> "Views":
        """Those rows alone, by number or as a mask."""
        return Views(self.maps[rows], self.image[rows])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Some maps, float32 (len(rows), channels, height, width)."""
        return self.maps.read(rows)

    def one_each(self, rng: np.random.Generator) -> np.ndarray:
        """A random row of each image, in random order."""
        order = rng.permutation(len(self))
        _, first = np.unique(self.image[order], return_index=True)
        return np.asarray(order[np.sort(first)])


class Tuner:
    """An estimator: copies of a tail with a classifier behind each, trained on the maps of images' views."""

    def __init__(self, recipe: Recipe, tail: Tail, context: Context, *, device: torch.device, dtype: torch.dtype,
                 checkpoints: Checkpoints, label: str) -> None:  # fmt: skip
        self._recipe, self._tail, self._context, self._device = recipe, tail, context, device
        self._dtype, self._checkpoints, self._label = dtype, checkpoints, label

    def fit(self, X: Views, y: np.ndarray, groups: np.ndarray) -> Self:
        """Train every member; what a killed run left is taken up."""
        torch.set_num_threads(self._context.threads)
        self._weights = balance.weights(y) if self._recipe.class_weight else None
        with torch.random.fork_rng(devices=[]):
            self._networks = [self._train(X, y, member) for member in range(self._recipe.members)]
        return self

    def predict(self, X: Views) -> np.ndarray:
        """Probabilities or numbers, float (rows, names): the members' mean."""
        torch.set_num_threads(self._context.threads)
        task = self._context.target.task
        with torch.inference_mode(), self._autocast():
            parts = [
                torch.stack([output(task, network(maps).float()) for network in self._networks]).mean(0).cpu()
                for _, maps in self._read(X, _pieces(np.arange(len(X))))
            ]
        return balance.undone(torch.cat(parts).double().numpy(), self._weights)

    def attention(self, X: Views) -> np.ndarray | None:
        """Where the networks find what they predict, 0 to 1, float (rows, height, width); the first of several numbers.

        Class activation maps (Zhou et al., "Learning deep features for discriminative localization", CVPR 2016). None
        where the classifier's features are no means over the places of a map.
        """
        torch.set_num_threads(self._context.threads)
        parts = []
        with torch.inference_mode():
            for _, maps in self._read(X, _pieces(np.arange(len(X)))):
                found = [_activation(network, maps, self._context.target.task) for network in self._networks]
                known = [activation for activation in found if activation is not None]
                if len(known) < len(found):
                    return None
                mean = torch.stack(known).mean(0)
                parts.append(mean / mean.amax((1, 2), keepdim=True).clamp(min=1e-12))
        return torch.cat(parts).cpu().numpy() if parts else None

    def _train(self, X: Views, y: np.ndarray, member: int) -> nn.Module:
        seed = [self._context.seed, member]
        name = "-".join(map(str, seed))
        network = self._network()
        state = self._checkpoints.read(name)
        if state is None:
            self._probe(network, X, y, np.random.default_rng(seed))
        run = Run(network, self._recipe, self._context.target.task, images=len(np.unique(X.image)))
        if state is not None:
            run.load(state)
        targets = as_targets(y).to(self._device)
        task, smoothing, weights = self._context.target.task, self._recipe.smoothing, as_weights(self._weights)
        weights = weights if weights is None else weights.to(self._device)
        for rows, maps in track(self._batches(run, X, seed, name), total=run.left, unit="batches", label=self._label):
            with self._autocast():
                raw = network(maps)
            run.meter.add(raw, targets[rows])
            run.step(loss(task, raw.float(), targets[rows], smoothing, weights))
        if self._context.watch is not None:
            self._context.watch.losses.extend(run.losses)
        return run.result()

    def _network(self) -> nn.Sequential:
        """The tail's own copy, and a classifier whose weights are still to be found."""
        classifier = nn.Linear(self._tail.features, len(self._context.target.names))
        network = nn.Sequential(deepcopy(self._tail), classifier).requires_grad_(True)
        return network.to(self._device).to(memory_format=torch.channels_last)

    def _probe(self, network: nn.Sequential, X: Views, y: np.ndarray, rng: np.random.Generator) -> None:
        """Fit the classifier on the features as they are, of a view of each image."""
        rows = X.one_each(rng)
        with torch.inference_mode(), self._autocast():
            parts = [network.eval()[0](maps).float().cpu().numpy() for _, maps in self._read(X, _pieces(rows))]
        fitted = probes.fit(self._context.target.task, np.concatenate(parts), y[rows], C=self._recipe.probe,
                            balanced=self._recipe.class_weight is not None)  # fmt: skip
        with torch.no_grad():
            for parameter, values in zip(network[1].parameters(), fitted, strict=True):
                parameter.copy_(torch.from_numpy(values))

    def _batches(self, run: "Run", X: Views, seed: list[int], name: str) -> Iterator[tuple[np.ndarray, Tensor]]:
        """The batches of the epochs that are left; when an epoch is over, its state is kept."""
        while run.left:
            rng = np.random.default_rng([*seed, run.epoch])
            torch.manual_seed(int(rng.integers(2**62)))  # of dropout
            yield from self._read(X, np.array_split(X.one_each(rng), run.steps))
            watch = self._context.watch
            run.close_epoch(self._watched(run.result(), watch) if watch else float("nan"))
            self._checkpoints.write(name, run.state())

    def _watched(self, network: nn.Module, watch: Watch) -> float:
        """The loss of the watched rows by the averaged weights, which are those that predict in the end."""
        meter, targets = Meter(self._context.target.task), as_targets(watch.y).to(self._device)
        with torch.inference_mode(), self._autocast():
            for rows, maps in self._read(watch.X, _pieces(np.arange(len(targets)))):
                meter.add(network(maps), targets[rows])
        return meter.mean()

    def _read(self, X: Views, batches: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Each batch of rows with its maps."""
        for rows in batches:
            yield rows, torch.from_numpy(X.read(rows)).to(self._device).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16)


def _activation(network: nn.Module, maps: Tensor, task: Task) -> Tensor | None:
    """How much each place speaks for the likeliest name, float (rows, height, width)."""
    tail, classifier = cast(tuple[Tail, nn.Linear], tuple(network.children()))
    last = tail.last(maps)
    features = tail.pooled(last)
    if last.dim() != 4 or last.shape[:2] != features.shape or last.shape[2:].numel() == 1:
        return None
    if not torch.allclose(last.mean((2, 3)), features, rtol=1e-3, atol=1e-4 * float(features.abs().max())):
        return None
    raw = classifier(features)
    name = raw.argmax(1) if task != "regression" else torch.zeros(len(raw), dtype=torch.long, device=raw.device)
    return torch.einsum("bchw,bc->bhw", last, classifier.weight[name]).clamp(min=0)


class Run:
    """A network being trained; `losses` are those of the epochs that are over, as a `Watch` has them."""

    def __init__(self, network: nn.Sequential, recipe: Recipe, task: Task, *, images: int) -> None:
        self.steps = max(1, images // recipe.batch)  # of an epoch; all are of one size, at least `batch`
        self.epoch = 0
        self.meter, self.losses, self._task = Meter(task), list[tuple[int, float, float]](), task
        self._network, self._epochs = network, recipe.epochs
        self._optimizer = AdamW(_groups(network, recipe))
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._schedule = OneCycleLR(self._optimizer, rates, total_steps=max(1, recipe.epochs * self.steps))
        decay = 1 - 1 / max(1.0, recipe.average * self.steps)
        mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(network, multi_avg_fn=mean, use_buffers=True)
        network.train()
        if images < FEW * self.steps:
            for module in network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    @property
    def left(self) -> int:
        """Steps to go at the beginning of an epoch."""
        return (self._epochs - self.epoch) * self.steps

    def step(self, value: Tensor) -> None:
        """Follow a batch's loss."""
        self._optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
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


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, range(PREDICTED, len(rows), PREDICTED))
