"""What a data set's files say of themselves: which tables, images and labels belong together."""

from goulot.discovery.deduce import Found, deduce
from goulot.discovery.trainset import Given

__all__ = ["Found", "Given", "deduce"]
