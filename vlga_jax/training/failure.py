"""What a training is given up for."""

import contextlib
from collections.abc import Iterator

import jax


class TrainingFailure(Exception):
    """A network that cannot be trained as asked: `status` is diverged, out_of_memory, out_of_time or not_compiled."""

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


@contextlib.contextmanager
def refusal_is_failure() -> Iterator[None]:
    """Within it, a program that XLA will not compile raises `TrainingFailure`: other networks may do better.

    Running out of memory passes, and so does a wrong argument, as an option that this jaxlib does not know: it would
    be wrong for every network.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if any(code in str(error) for code in ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT")):
            raise
        raise TrainingFailure("not_compiled", str(error).splitlines()[0][:200]) from error
