"""How genetic operators are compiled: soon, because they compute on some dozens of integers and run a few times."""

import functools
from collections.abc import Callable
from typing import Any

import jax

# Random bits are long chains of integer operations, which LLVM would spend most of the time on for nothing.
_CPU = {"xla_backend_optimization_level": 0}


def operator[Result](*static: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Returns a decorator of pure functions, which are compiled when they are first called.

    Args:
      static: names of the arguments that are compiled in.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        jitted = functools.partial(jax.jit, function, static_argnames=static)
        within_another = jitted()  # whose options are its own

        @functools.cache
        def alone() -> Any:  # not at import, which must not wake a device
            return jitted(compiler_options=_CPU) if jax.default_backend() == "cpu" else within_another

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Result:
            traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((arguments, named)))
            return (within_another if traced else alone())(*arguments, **named)

        return call

    return decorate
