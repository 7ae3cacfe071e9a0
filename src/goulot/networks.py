"""Networks by name: timm's, and those that it lacks, each with timm's interface.

That interface is what `taps` and `backbones` read: `forward_features`, `forward_head(x, pre_logits)`, `feature_info`
(the modules at which a stage ends), `pretrained_cfg` (the preprocessing) and `reset_classifier`.
"""

from typing import Any, ClassVar

import timm
import torch
import torchvision.models as tv
from torch import Tensor, nn

from goulot.errors import ParamsError, choices
from goulot.lenet5 import LeNet5

NOISE_ROWS, NOISE_SIDE = 4, 96

TORCHVISION_CFG = {
    "input_size": (3, 224, 224), "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "license": "bsd-3-clause",
}  # fmt: skip


class AlexNet(tv.AlexNet):  # type: ignore[misc]
    """Krizhevsky's network (2012, in its one-column form of 2014), as torchvision has it."""

    feature_info = ({"module": "features.2"}, {"module": "features.5"}, {"module": "features.12"})
    pretrained_cfg: ClassVar = {**TORCHVISION_CFG, "url": tv.AlexNet_Weights.IMAGENET1K_V1.url}

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to the last map (B, 256, H/32, W/32)."""
        maps: Tensor = self.features(pixels)
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map to (B, 4096), or to the logits."""
        hidden: Tensor = self.classifier[:-1](self.avgpool(maps).flatten(1))
        return hidden if pre_logits else self.classifier[-1](hidden)

    def reset_classifier(self, num_classes: int) -> None:
        """Put another last layer in place of ImageNet's; none for 0."""
        self.classifier[-1] = nn.Linear(4096, num_classes) if num_classes else nn.Identity()


class GoogLeNet(tv.GoogLeNet):  # type: ignore[misc]
    """Inception-v1 (Szegedy 2015), as torchvision has it; its weights take inputs scaled to -1 ... 1."""

    feature_info = tuple({"module": name} for name in ("maxpool1", "maxpool2", "maxpool3", "maxpool4", "inception5b"))
    pretrained_cfg: ClassVar = {
        **TORCHVISION_CFG, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
        "url": tv.GoogLeNet_Weights.IMAGENET1K_V1.url
    }  # fmt: skip
    body = (
        "conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3", "inception4a",
        "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4", "inception5a", "inception5b",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__(init_weights=True)  # with the auxiliary heads, which the file of weights has

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) to the last map (B, 1024, H/32, W/32)."""
        for name in self.body:
            pixels = getattr(self, name)(pixels)
        return pixels

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map to (B, 1024), or to the logits."""
        hidden: Tensor = self.dropout(self.avgpool(maps).flatten(1))
        return hidden if pre_logits else self.fc(hidden)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels to the logits, without the auxiliary heads."""
        return self.forward_head(self.forward_features(pixels))

    def reset_classifier(self, num_classes: int) -> None:
        """Put another last layer in place of ImageNet's, none for 0; drop the auxiliary heads."""
        self.fc = nn.Linear(1024, num_classes) if num_classes else nn.Identity()
        self.aux1 = self.aux2 = None


# What timm lacks, by the names that people use.
OTHERS: dict[str, type[AlexNet] | type[GoogLeNet] | type[LeNet5]] = {
    "alexnet": AlexNet,
    "googlenet": GoogLeNet,
    "inception_v1": GoogLeNet,
    "lenet5": LeNet5,
}


def check(name: str, where: str) -> None:
    """Raise ParamsError, with names that resemble it, where no network has the name."""
    if name not in OTHERS and not timm.is_model(name):
        known = [*timm.list_models(), *OTHERS]
        near = timm.list_models(f"{name[:4]}*") or known[:8]
        raise ParamsError(choices("network", name, near, f"{where} must be one of {len(known)} networks, such as"))


def create(name: str, *, input_size: int | None = None, seed: int = 0, **options: Any) -> nn.Module:
    """The network, untrained unless the options say otherwise; they and a fixed input size are timm's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in OTHERS:
            return OTHERS[name]()
        if input_size and (config := timm.get_pretrained_cfg(name)) and config.fixed_input_size:
            options["img_size"] = input_size  # a transformer's position embeddings are made for one size
        model: nn.Module = timm.create_model(name, **options)
        return model


def settled(network: nn.Module, input_size: int | None = None) -> nn.Module:
    """An untrained network whose batch norms know the scale of what they see, here noise.

    As they are made they change nothing, and a deep network's values grow out of every bound or vanish. A network that
    takes neither a small image nor one of the input's size is given back as it was made: finding its taps says why.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms:
        config: Any = network.pretrained_cfg
        config = config if isinstance(config, dict) else vars(config)
        own = input_size or config["input_size"][-1]
        network.eval()
        for norm in norms:
            norm.train()
            norm.momentum = None  # the plain mean over what it sees, which is one batch
        for side in (own,) if config.get("fixed_input_size") else (NOISE_SIDE, own):
            if _seen(network, side):
                break
            for norm in norms:
                norm.reset_running_stats()
    return network.eval()


def _seen(network: nn.Module, side: int) -> bool:
    """Whether the network took a batch of noise of that size."""
    noise = torch.randn(NOISE_ROWS, 3, side, side, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits must not depend on the machine's cores
    try:
        with torch.no_grad():
            network(noise)
    except Exception:  # each network has its own errors for a size that it cannot take
        return False
    finally:
        torch.set_num_threads(threads)
    return True
