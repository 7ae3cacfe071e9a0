"""Under which licence weights stand, as far as that is stated; nothing is loaded or fetched for it."""

from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

# What torchvision says of its own weights.
TORCHVISION = "bsd-3-clause"


def find(model: str, source: str) -> str | None:
    """Of a network's weights from a source as params.yaml names it; None where it is not known."""
    kind, _, place = source.partition(":")
    if kind == "package":
        return packaged(place)
    if kind not in ("hub", "timm"):
        return None
    import timm

    config = timm.get_pretrained_cfg(model, allow_unregistered=True) if timm.is_model(model) else None
    return config.license if config else TORCHVISION


def packaged(module: str) -> str | None:
    """As the package states it, else the title of the licence's text that it carries."""
    try:
        about = distribution(packages_distributions()[module][0])
    except (KeyError, PackageNotFoundError):
        return None
    for name in ("License-Expression", "License"):
        if name in about.metadata and about.metadata[name] != "UNKNOWN":
            return about.metadata[name]
    texts = [file.read_text() for file in about.files or () if file.name.upper().startswith("LICEN")]
    return next((line.strip() for text in texts for line in text.splitlines() if line.strip()), None)
