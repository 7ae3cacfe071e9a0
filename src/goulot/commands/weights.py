"""`goulot weights fetch`: the weights of every network in params.yaml, brought while there is a network connection."""

from rich.console import Console
from rich.table import Column, Table

from goulot import networks, params, weights
from goulot.backbones import BackboneParams
from goulot.errors import GoulotError, WeightsError
from goulot.params import Section


class Extract(Section, extra="ignore"):
    """What this command reads of the section `extract`."""

    backbones: dict[str, BackboneParams]


def run() -> None:
    """Fetch what is not here yet; print where each file lies and its licence.

    Raises WeightsError naming what could not be had, after everything else was fetched.
    """
    table = Table("backbone", "network", "weights", "MB", "licence", Column("file", overflow="fold"))
    failed: list[str] = []
    for name, backbone in params.load("extract", Extract).backbones.items():
        where = f"extract.backbones.{name}"
        try:
            networks.check(backbone.model, f"{where}.model")
            found = weights.find(backbone.model, backbone.weights, f"{where}.weights")
        except GoulotError as error:
            failed.append(str(error))
            continue
        file, licence = found.file, found.licence or "not stated"
        size = f"{file.stat().st_size / 1e6:,.1f}" if file else ""
        table.add_row(name, backbone.model, backbone.weights, size, licence if file else "", str(file or ""))
    if table.row_count:
        Console().print(table)
    if failed:
        raise WeightsError("; ".join(failed))
