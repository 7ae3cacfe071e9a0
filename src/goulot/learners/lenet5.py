"""LeNet-5 (LeCun 1998), trained from scratch in each fold: the baseline that knows nothing of ImageNet.

It reads the images as `extract` hands them to the backbone `lenet5`: its map `input`.
"""

from pydantic import Field

from goulot.learners import Context, Estimator
from goulot.lenet5 import LeNet5
from goulot.recipes import MapRecipe
from goulot.training import MapEnsemble


class Params(MapRecipe):
    """Settings of the training."""

    backbone: str = Field("lenet5", description="a name below extract.backbones whose maps are [input]")
    tap: str = Field("input", description="the depth; the pixels")
    epochs: int = Field(20, ge=1)
    weight_decay: float = Field(0.01, ge=0)
    members: int = Field(1, ge=1, le=50, description="networks trained from different seeds and averaged")


def make(params: Params, context: Context) -> Estimator:
    """A new network, untrained."""
    return MapEnsemble(
        params, lambda _shape: LeNet5(len(context.target.names)), context.target.task,
        seed=context.seed, threads=context.threads, watch=context.watch, balanced=context.balanced,
    )  # fmt: skip
