"""goulot: from labelled images to a scored submission by way of bottleneck features."""

__version__ = "0.1.0"
