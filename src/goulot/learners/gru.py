"""A recurrent head: the places of a map, row by row, as a sequence for a bidirectional GRU (Cho 2014)."""

from pydantic import Field
from torch import Tensor, nn

from goulot.learners import Context, Estimator
from goulot.recipes import MapRecipe
from goulot.training import Dropout, MapEnsemble


class Params(MapRecipe):
    """Settings of the head."""

    hidden: int = Field(96, ge=1, description="hidden units of each direction")
    dropout: float = Field(0.3, ge=0, lt=1, description="of the places' channels and of the summary")


class Recurrent(nn.Module):
    """Maps (B, C, H, W) to outputs (B, names)."""

    def __init__(self, channels: int, outputs: int, params: Params) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.drop = Dropout(params.dropout)
        self.recur = nn.GRU(channels, params.hidden, batch_first=True, bidirectional=True)
        self.classify = nn.Linear(2 * params.hidden, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """The mean over the sequence of what the GRU says at each place, through a linear layer."""
        said, _ = self.recur(self.drop(self.norm(maps.flatten(2).transpose(1, 2))))
        raw: Tensor = self.classify(self.drop(said.mean(1)))
        return raw


def make(params: Params, context: Context) -> Estimator:
    """A new ensemble of heads."""
    return MapEnsemble(
        params, lambda shape: Recurrent(shape[0], len(context.target.names), params), context.target.task,
        seed=context.seed, threads=context.threads, watch=context.watch, balanced=context.balanced,
    )  # fmt: skip
