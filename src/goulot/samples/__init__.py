"""Competitions made from data sets that PyPI packages ship, laid out as a download from Kaggle."""

from types import ModuleType

from goulot.errors import ParamsError, choices
from goulot.samples import elpv, elpv_modules

SAMPLES: dict[str, ModuleType] = {"elpv": elpv, "elpv-modules": elpv_modules}


def find(name: str) -> ModuleType:
    """The sample of that name. Raises ParamsError listing the known ones."""
    if name not in SAMPLES:
        raise ParamsError(choices("sample", name, SAMPLES, "the bundled samples are"))
    return SAMPLES[name]
