"""The genes, by name, that tests begin with; each says what it changes."""

from typing import Any

GENES: dict[str, Any] = {
    "activation": "elu",
    "a_channels": 8,
    "a_kernel": 3,
    "a_batch_norm": True,
    "include_pool": True,
    "pool_type": "average",
    "include_b": True,
    "b_channels": 4,
    "b_kernel": 1,
    "b_batch_norm": False,
    "include_skip": True,
}
