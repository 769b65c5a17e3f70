"""What a training is given up for."""

import contextlib
from collections.abc import Iterator

import jax


class TrainingFailure(Exception):
    """A network that cannot be trained as asked: `status` is diverged, out_of_memory or out_of_time."""

    def __init__(self, status: str, reason: str):
        self.status, self.reason = status, reason
        super().__init__(f"{status}: {reason}")


@contextlib.contextmanager
def out_of_memory_is_failure() -> Iterator[None]:
    """Within it, running out of memory raises `TrainingFailure`; every other error passes."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            reason = str(error) or type(error).__name__  # the interpreter's own MemoryError says nothing
            raise TrainingFailure("out_of_memory", reason.splitlines()[0][:200]) from error
        raise
