"""vlga_jax: a variable length genetic algorithm that evolves convolutional networks for your images, in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlga_jax.run.export import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `load` when it is first asked for, so that `import vlga_jax` alone stays free of JAX."""
    if name == "load":
        from vlga_jax.run.export import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
