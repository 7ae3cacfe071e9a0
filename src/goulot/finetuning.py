"""Fine-tuning: a classifier fitted on a network's features, then trained on together with the network's last blocks.

Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR 2022: a
classifier that already fits (LP) spares the blocks (FT) what a random one would do to them at first. A third part, of
its own wish, trains the whole network from the images.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Literal, NamedTuple, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from goulot import balance, probes, processor
from goulot.checkpoints import Checkpoints
from goulot.errors import ParamsError
from goulot.learners import Context
from goulot.pixels import Pixels, augmented, mixed, soft
from goulot.progress import track
from goulot.recipes import MapRows, Watch
from goulot.stepping import Recipe, Run, Whole
from goulot.tails import Tail
from goulot.targets import Task
from goulot.training import Meter, as_targets, as_weights, loss, output

Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]

PREDICTED = 64  # rows at a time


def place(wanted: Device) -> torch.device:
    """Where the training runs. Raises ParamsError where a GPU is wanted and there is none."""
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise ParamsError("finetune.device is cuda, but torch finds no GPU; set it to auto or cpu")
    return torch.device("cuda" if found and wanted != "cpu" else "cpu")


class Share(NamedTuple):
    """What a process trains, on the GPU of its number where there are GPUs, and by how many threads."""

    folds: list[int]
    threads: int


def shares(folds: Sequence[int], device: torch.device, threads: int) -> list[list[Share]]:
    """Rounds of processes that train side by side: folds need nothing of each other.

    A fold on each GPU; or on each thread, whose waits for one another at every layer cost two of them a third of their
    time (Lite0's end, two cores). Of the folds that are left over each has its part of the threads.
    """
    if device.type == "cuda":
        many = min(count(), len(folds))
        return [[Share(list(folds[number::many]), threads) for number in range(many)]]
    whole = len(folds) - len(folds) % threads
    left = folds[whole:]
    first = [Share(list(folds[number:whole:threads]), 1) for number in range(threads)]
    last = [Share([fold], threads // len(left)) for fold in left]
    return [shares for shares in (first if whole else [], last) if shares]


def count() -> int:
    """How many GPUs there are."""
    return torch.cuda.device_count()


def dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """What the layers compute in, `auto` being bfloat16 where the device does; weights and steps are float32."""
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else processor.computes_bfloat16()
    )
    return torch.bfloat16 if (native if wanted == "auto" else wanted == "bfloat16") else torch.float32


class _InFloat32:
    """Before a kind of layer: computes it in float32, whatever is computed in around it."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            found: Tensor = super().forward(x.float())  # type: ignore[misc]
        return found


def depthwise(network: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that have a filter a channel."""
    found = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return [module for module in found if module.groups == module.in_channels > 1]


def spare_depthwise(network: nn.Module) -> nn.Module:
    """Leave depthwise convolutions out of bfloat16 on a CPU, in place, but for what is not trained and has no stride.

    OneDNN takes several times as long in it for the gradients of their filters, and of what a stride skips (5 x 5 ones,
    measured on a CPU with AVX512-BF16: 4 to 9 times). With them in float32 a step of Lite0's end takes 0.7 of one that
    is all in float32.
    """
    for module in depthwise(network):
        if module.weight.requires_grad or max(module.stride) > 1:
            kind = type(module)
            module.__class__ = type(kind.__name__, (_InFloat32, kind), {})
    return network


class Views:
    """Maps of the views of images; `image` tells the rows' images apart, int (rows,).

    `pixels` are the same rows as the network's input, for a recipe that trains the whole of it.
    """

    def __init__(self, maps: MapRows, image: np.ndarray, pixels: Pixels | None = None) -> None:
        self.maps, self.image, self.pixels, self.shape = maps, image, pixels, maps.shape

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, rows: np.ndarray) -> "Views":
        """Those rows alone, by number or as a mask."""
        return Views(self.maps[rows], self.image[rows], self.pixels and self.pixels[rows])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Some maps, float32 (len(rows), channels, height, width)."""
        return self.maps.read(rows)

    def one_each(self, rng: np.random.Generator) -> np.ndarray:
        """A random row of each image, in random order."""
        order = rng.permutation(len(self))
        _, first = np.unique(self.image[order], return_index=True)
        return np.asarray(order[np.sort(first)])


class Tuner:
    """An estimator: copies of a tail with a classifier behind each, trained on the maps of images' views.

    `whole` is the network from its input on, for a recipe that trains it too.
    """

    def __init__(self, recipe: Recipe, tail: Tail, context: Context, *, device: torch.device, dtype: torch.dtype,
                 checkpoints: Checkpoints, label: str, whole: Tail | None = None) -> None:  # fmt: skip
        self._recipe, self._context, self._device = recipe, context, device
        self._dtype, self._checkpoints, self._label = dtype, checkpoints, label
        self._phases = [Phase(tail, recipe)]
        if recipe.whole is not None and whole is not None:
            own = recipe.whole.model_dump(include=set(Recipe.model_fields))
            self._phases.append(Phase(whole, recipe.model_copy(update=own), recipe.whole))

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
                torch.stack([output(task, network(inputs).float()) for network in self._networks]).mean(0).cpu()
                for _, inputs in self._read(self._phases[-1].reader(X), _pieces(np.arange(len(X))))
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
            for _, inputs in self._read(self._phases[-1].reader(X), _pieces(np.arange(len(X)))):
                found = [_activation(network, inputs, self._context.target.task) for network in self._networks]
                known = [activation for activation in found if activation is not None]
                if len(known) < len(found):
                    return None
                mean = torch.stack(known).mean(0)
                parts.append(mean / mean.amax((1, 2), keepdim=True).clamp(min=1e-12))
        return torch.cat(parts).cpu().numpy() if parts else None

    def _train(self, X: Views, y: np.ndarray, member: int) -> nn.Module:
        """A network through every phase, each from where the one before ended; their losses are noted in order."""
        seed, losses = [self._context.seed, member], list[tuple[int, float, float]]()
        network: nn.Module | None = None
        for number, phase in enumerate(self._phases):
            run = self._run(phase, [*seed, number], network, X, y)
            network = run.result()
            done = len(losses)
            losses += [(done + epoch, training, held) for epoch, training, held in run.losses]
        if self._context.watch is not None:
            self._context.watch.losses.extend(losses)
        return cast(nn.Module, network)

    def _run(self, phase: "Phase", seed: list[int], before: nn.Module | None, X: Views, y: np.ndarray) -> Run:
        """Train a phase's network to its end, from what the phase before made of it."""
        name, task = "-".join(map(str, seed)), self._context.target.task
        network = self._network(phase.tail)
        state = self._checkpoints.read(name)
        if before is not None:
            network.load_state_dict({**network.state_dict(), **before.state_dict()})  # what the tap ends is as it was
        elif state is None:
            self._probe(network, X, y, np.random.default_rng(seed))
        run = Run(network, phase.recipe, task, images=len(np.unique(X.image)))
        if state is not None:
            run.load(state)
        weights = as_weights(self._weights)
        weights = weights if weights is None else weights.to(self._device)
        batches = self._batches(phase, run, X, as_targets(y).to(self._device), seed, name)
        for inputs, targets in track(batches, total=run.left, unit="batches", label=f"{self._label}{phase.label}"):
            with self._autocast():
                raw = network(inputs)
            run.meter.add(raw, targets)
            run.step(loss(task, raw.float(), targets, phase.recipe.smoothing, weights))
        return run

    def _network(self, tail: Tail) -> nn.Sequential:
        """The tail's own copy, and a classifier whose weights are still to be found."""
        classifier = nn.Linear(tail.features, len(self._context.target.names))
        network = nn.Sequential(deepcopy(tail), classifier).requires_grad_(True)
        if not self._recipe.depthwise:
            for module in depthwise(network):
                module.requires_grad_(False)
        if self._device.type == "cpu" and self._dtype == torch.bfloat16:
            spare_depthwise(network)
        return network.to(self._device).to(memory_format=torch.channels_last)

    def _probe(self, network: nn.Sequential, X: Views, y: np.ndarray, rng: np.random.Generator) -> None:
        """Fit the classifier on the features as they are, of a view of each image."""
        rows = X.one_each(rng)
        read = self._phases[0].reader(X)
        with torch.inference_mode(), self._autocast():
            parts = [network.eval()[0](inputs).float().cpu().numpy() for _, inputs in self._read(read, _pieces(rows))]
        fitted = probes.fit(self._context.target.task, np.concatenate(parts), y[rows], C=self._recipe.probe,
                            balanced=self._recipe.class_weight is not None)  # fmt: skip
        with torch.no_grad():
            for parameter, values in zip(network[1].parameters(), fitted, strict=True):
                parameter.copy_(torch.from_numpy(values))

    def _batches(self, phase: "Phase", run: Run, X: Views, targets: Tensor, seed: list[int],
                 name: str) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """The batches of the epochs that are left; when an epoch is over, its state is kept."""
        *own, number = seed
        while run.left:
            rng = np.random.default_rng([*own, run.epoch, number])
            torch.manual_seed(int(rng.integers(2**62)))  # of dropout, and of what changes images
            rows = np.array_split(X.one_each(rng), run.batches)
            for some, inputs in self._read(phase.reader(X, training=True), rows):
                yield phase.changed(X, inputs, targets[some], len(self._context.target.names))
            watch = self._context.watch
            run.close_epoch(self._watched(phase, run.result(), watch) if watch else float("nan"))
            self._checkpoints.write(name, run.state())

    def _watched(self, phase: "Phase", network: nn.Module, watch: Watch) -> float:
        """The loss of the watched rows by the averaged weights, which are those that predict in the end."""
        meter, targets = Meter(self._context.target.task), as_targets(watch.y).to(self._device)
        with torch.inference_mode(), self._autocast():
            for rows, inputs in self._read(phase.reader(watch.X), _pieces(np.arange(len(targets)))):
                meter.add(network(inputs), targets[rows])
        return meter.mean()

    def _read(self, read: Callable[[np.ndarray], Tensor], batches: Sequence[np.ndarray]
              ) -> Iterator[tuple[np.ndarray, Tensor]]:  # fmt: skip
        """Each batch of rows with its inputs; the next one is read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            coming = [reader.submit(read, rows) for rows in batches[:1]]
            for number, rows in enumerate(batches):
                inputs = coming.pop().result()
                coming = [reader.submit(read, after) for after in batches[number + 1 : number + 2]]
                yield rows, inputs.to(self._device).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16)


class Phase(NamedTuple):
    """A part of the training: which end of the network is trained, and how; `whole` where it is all of it."""

    tail: Tail
    recipe: Recipe
    whole: Whole | None = None

    @property
    def label(self) -> str:
        """What the progress display adds."""
        return ", whole" if self.whole else ""

    def reader(self, X: Views, *, training: bool = False) -> Callable[[np.ndarray], Tensor]:
        """Gives rows' inputs; of the whole network in training as they are decoded, which `changed` makes inputs."""
        if self.whole is None:
            return lambda rows: torch.from_numpy(X.read(rows))
        pixels = cast(Pixels, X.pixels)
        return pixels.decode if training else lambda rows: torch.from_numpy(pixels.read(rows))

    def changed(self, X: Views, inputs: Tensor, targets: Tensor, names: int) -> tuple[Tensor, Tensor]:
        """What is trained on of a batch that was read for training."""
        if self.whole is None:
            return inputs, targets
        images = cast(Pixels, X.pixels).normalised(augmented(inputs, self.whole.augment))
        return mixed(images, soft(targets, names), mixup=self.whole.mixup, cutmix=self.whole.cutmix)


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


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, range(PREDICTED, len(rows), PREDICTED))
