"""What a data set's files say of themselves: which tables, images and labels belong together."""

from goulot.discovery.deduce import Found, Given, deduce

__all__ = ["Found", "Given", "deduce"]
