"""What a training is given up for."""

import contextlib
from collections.abc import Iterator

import jax

DIVERGED, OUT_OF_MEMORY, OUT_OF_TIME, NOT_COMPILED = "diverged", "out_of_memory", "out_of_time", "not_compiled"


class TrainingFailure(Exception):
    """A network that cannot be trained as asked: `status` is diverged, out_of_memory, out_of_time or not_compiled."""

    def __init__(self, status: str, reason: str):
        self.status, self.reason = status, reason
        super().__init__(f"{status}: {reason}")


# Of XLA, where cuDNN has no algorithm for a convolution, or none that gives the same bits every time. A library that
# the loader does not find can be the reason, too, so that is no result to be kept.
_NO_ALGORITHM = "supported configs"


@contextlib.contextmanager
def failures_of_the_network() -> Iterator[None]:
    """Within it, running out of memory, or a convolution without an algorithm, raises `TrainingFailure`.

    Every other error passes.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        words = str(error)
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in words:
            status = OUT_OF_MEMORY
        elif _NO_ALGORITHM in words:
            status = NOT_COMPILED
        else:
            raise
        reason = words or type(error).__name__  # the interpreter's own MemoryError says nothing
        raise TrainingFailure(status, reason.splitlines()[0][:200]) from error
