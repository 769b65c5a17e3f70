"""What tests of the local executor share: how one is opened, and an answer's bits."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vlga_jax.fitness.evaluation import Request
from vlga_jax.fitness.executors.local import LocalExecutor, Trained

OpenExecutor = Callable[..., LocalExecutor]
"""Its options; what the fixture `open_executor` is."""


def nobody(request: Request) -> None:
    """What a request inherits from that starts afresh."""


def bits(trained: Trained) -> Any:
    evaluation = trained.evaluation
    assert evaluation.status == "ok", evaluation.reason
    leaves = jax.tree_util.tree_leaves_with_path(trained.variables)
    assert all(isinstance(leaf, np.ndarray) for _, leaf in leaves), "weights lie on the host"
    return evaluation.fitness, evaluation.losses, {jax.tree_util.keystr(path): leaf.tobytes() for path, leaf in leaves}
