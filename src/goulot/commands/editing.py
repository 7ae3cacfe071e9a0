"""`params.yaml` changed in place, all comments and other settings kept."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from goulot import layout, params
from goulot.artifacts import write_text


@contextmanager
def edited() -> Iterator[CommentedMap]:
    """Yield the document; what the block makes of it is written if the block succeeds."""
    params.read()
    yaml = YAML()
    yaml.width = 120
    yaml.preserve_quotes = True
    document = yaml.load(layout.PARAMS.read_text(encoding="utf-8"))
    yield document
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    write_text(layout.PARAMS, buffer.getvalue())
