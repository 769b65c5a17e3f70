"""How genetic operators are compiled: quickly, for they compute on some dozens of integers and run a few times."""

import functools
from collections.abc import Callable
from typing import Any

import jax

# Random bits are long chains of integer operations, which LLVM would spend most of the time on for nothing.
_CPU = {"xla_backend_optimization_level": 0}


def operator[Result](*static: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Returns a decorator of pure functions, which are compiled when they are first called.

    They are called from the host: within another `jax.jit`, which has its own options, they raise ValueError, and what
    they were made of, `__wrapped__`, takes their place.

    Args:
      static: names of the arguments that are compiled in.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @functools.cache
        def compiled() -> Any:  # not at import, which must not wake a device
            options = _CPU if jax.default_backend() == "cpu" else None
            return jax.jit(function, static_argnames=static, compiler_options=options)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Result:
            return compiled()(*arguments, **named)

        return call

    return decorate
