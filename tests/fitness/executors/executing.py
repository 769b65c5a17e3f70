"""What tests of the local executor share: how one is opened, what it answers, and an answer's bits."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from vlga_jax.fitness.evaluation import Request
from vlga_jax.fitness.executors.local import Ancestor, LocalExecutor, Trained
from vlga_jax.network.modules import ConvNet
from vlga_jax.training.features import PhaseData
from vlga_jax.training.programs import Plan

OpenExecutor = Callable[..., LocalExecutor]
"""Its options; what the fixture `open_executor` is."""


@dataclasses.dataclass(frozen=True)
class Built:
    """The plans whose programs were built and not taken from memory, in order."""

    trainings: list[Plan] = dataclasses.field(default_factory=list)
    evaluations: list[Plan] = dataclasses.field(default_factory=list)


def nobody(request: Request) -> None:
    """What a request inherits from that starts afresh."""


def bits(trained: Trained) -> Any:
    evaluation = trained.evaluation
    assert evaluation.status == "ok", evaluation.reason
    leaves = jax.tree_util.tree_leaves_with_path(trained.variables)
    assert all(isinstance(leaf, np.ndarray) for _, leaf in leaves), "weights lie on the host"
    return evaluation.fitness, evaluation.losses, {jax.tree_util.keystr(path): leaf.tobytes() for path, leaf in leaves}


def answers(executor: LocalExecutor, requests: Sequence[Request], ancestor: Ancestor | None = None) -> dict[str, Any]:
    """What must not depend on anything but the request: digest -> fitness, losses and the bits of the weights."""
    return {trained.evaluation.digest: bits(trained) for trained in executor.run(requests, lambda _: ancestor)}


def ancestor_of(executor: LocalExecutor, request: Request, ancestor: Ancestor | None = None) -> Ancestor:
    (trained,) = executor.run([request], lambda _: ancestor)
    assert trained.variables is not None
    return Ancestor(request, trained.variables)


def accuracy(request: Request, trained: Trained, images: PhaseData) -> float:
    """Of the whole network on the validation images, computed by Flax alone."""
    inputs = np.asarray(images.validation.inputs, np.float32) / np.float32(255)
    assert trained.variables is not None
    logits = ConvNet(request.network).apply(trained.variables, jax.numpy.asarray(inputs), train=False)
    assert isinstance(logits, jax.Array)
    return float(np.mean(np.argmax(logits, axis=-1) == images.validation.labels))
