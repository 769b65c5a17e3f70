"""What says and checks the shapes of arrays: names of jaxtyping and chex, and nothing more.

Where these two are not installed, as on a cluster's machine with only JAX and Flax, annotations and checks say nothing.
"""

from typing import TYPE_CHECKING, Any

from jax import Array

if TYPE_CHECKING:
    from chex import assert_equal_shape
    from jaxtyping import Bool, Float, Int, PRNGKeyArray
else:
    try:
        from jaxtyping import Bool, Float, Int, PRNGKeyArray
    except ModuleNotFoundError:

        class _Unchecked:
            """In an annotation's place: `Float[Array, "rows columns"]` is any value."""

            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Bool = Float = Int = _Unchecked
        PRNGKeyArray = Array
    try:
        from chex import assert_equal_shape
    except ModuleNotFoundError:

        def assert_equal_shape(arrays: Any) -> None:
            """Checks nothing."""


__all__ = ["Array", "Bool", "Float", "Int", "PRNGKeyArray", "assert_equal_shape"]
