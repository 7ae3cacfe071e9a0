"""LeNet-5, as a backbone and as the network that the learner of that name trains from scratch."""

from typing import ClassVar

from torch import Tensor, nn


class LeNet5(nn.Module):
    """LeCun's network (1998) on 32 x 32 pixels, in colour, with today's ReLU and maxima; it has no ImageNet weights."""

    feature_info = ({"module": "features.2"}, {"module": "features.5"})
    pretrained_cfg: ClassVar = {
        "input_size": (3, 32, 32), "crop_pct": 1.0, "crop_mode": "center", "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "license": None,
    }  # fmt: skip

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.pool = nn.AdaptiveAvgPool2d(5)  # other input sizes end in the same width
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        )  # fmt: skip
        self.classifier: nn.Module = nn.Linear(84, num_classes)

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, 32, 32) to the last map (B, 16, 5, 5)."""
        maps: Tensor = self.features(pixels)
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map to (B, 84), or to the logits."""
        hidden: Tensor = self.hidden(self.pool(maps))
        return hidden if pre_logits else self.classifier(hidden)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels to the logits."""
        return self.forward_head(self.forward_features(pixels))

    def reset_classifier(self, num_classes: int) -> None:
        """Put another last layer in place; none for 0."""
        self.classifier = nn.Linear(84, num_classes) if num_classes else nn.Identity()
