"""What tests ask of trees of arrays."""

from typing import Any

import jax
import numpy as np


def assert_same_bits(one: Any, other: Any) -> None:
    """Asserts that two trees have the same structure, dtypes, shapes and values."""
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.array(a), np.array(b), strict=True), one, other)
