"""Training curves: how the losses of what is trained in epochs went, for the page and for `dvc plots`."""

from collections.abc import Iterator

import pandas as pd

from goulot import layout
from goulot.artifacts import write_table
from goulot.reporting import charts
from goulot.reporting.finished import Run, folder
from goulot.reporting.page import Chart


def read(run: Run) -> dict[str, pd.DataFrame]:
    """Losses by fold and epoch (see crossfit.LOSSES) of each member that has some, by its name on the leaderboard."""
    files = {name: layout.curve(folder(name)) for name in run.members}
    return {name: pd.read_csv(file) for name, file in files.items() if file.is_file()}


def blocks(run: Run) -> Iterator[Chart]:
    """A chart a member."""
    for name, losses in read(run).items():
        yield Chart(f"{name}: loss by epoch; thin lines are the folds", charts.losses(losses, mean(losses)))


def write(run: Run) -> None:
    """A table a member with the means over the folds, in a folder of their own: DVC plots each file of it."""
    for name, losses in read(run).items():
        write_table(layout.CURVES / f"{name}.csv", mean(losses))


def mean(losses: pd.DataFrame) -> pd.DataFrame:
    """Over the folds: epoch, training, out_of_fold."""
    return losses.drop(columns="fold").groupby("epoch", as_index=False).mean().round(6)
