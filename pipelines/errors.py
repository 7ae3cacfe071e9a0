"""What can go wrong between the graph and its driver; every message is one a person can act on."""

from goulot.errors import GoulotError


class PipelineError(GoulotError):
    """The run cannot start or cannot go on."""


class StageFailedError(PipelineError):
    """A stage's command ended with an error of its own."""


class StageKilledError(PipelineError):
    """A stage's process was killed from outside: by a person, by the system, for want of memory."""


class RunStoppedError(PipelineError):
    """The run was cancelled while this stage waited or worked."""
