"""Small networks, requests and images for the tests of this wing, and accuracies without training."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.recipes import PLAIN
from vlga_jax.fitness.evaluation import Evaluation, Limits, Request, failure
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.executors.local import FindAncestor, LocalExecutor, Trained
from vlga_jax.fitness.generation import BudgetConfig, Generations, Outcome
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.stopping import StoppingConfig
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training.examples import Examples
from vlga_jax.training.features import PhaseData

BLOCK = BlockSpec(ConvSpec(4, 3, True), PoolSpec("max", 2), ConvSpec(4, 1, False), skip=False, dropout_rate=0.0)
RECIPE = dataclasses.replace(PLAIN, epochs=2, batch_size=16)
REQUEST = Request(
    network=NetworkSpec((6, 6, 1), 3, "relu", "average", (BLOCK,)),
    num_inherited=0,
    inherited_from=None,
    recipe=RECIPE,
    limits=Limits(0.0, 0, 0),
    data="made here",
    seed=0,
)

MakeRequest = Callable[..., Request]


@pytest.fixture(scope="session")
def make_request() -> MakeRequest:
    """Builds a request for one block on 6x6 images of three classes, with fields changed.

    `block` changes the last block, `recipe` and `limits` change their fields; `heir_of` makes it a request for that
    request's blocks, frozen, and one more.
    """

    def make(
        block: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        heir_of: Request | None = None,
        **changes: Any,
    ) -> Request:
        added = dataclasses.replace(BLOCK, **(block or {}))
        inherited = heir_of.network.blocks if heir_of else ()
        request = dataclasses.replace(
            REQUEST,
            network=dataclasses.replace(REQUEST.network, blocks=(*inherited, added)),
            num_inherited=len(inherited),
            inherited_from=heir_of.digest if heir_of else None,
            recipe=dataclasses.replace(RECIPE, **(recipe or {})),
            limits=dataclasses.replace(REQUEST.limits, **(limits or {})),
        )
        return dataclasses.replace(request, **changes)

    return make


@pytest.fixture(scope="session")
def images() -> PhaseData:
    """72 training and 30 validation images of noise, the brighter the higher the class."""
    rng = np.random.default_rng(0)
    parts = []
    for num_examples in (72, 30):
        labels = np.arange(num_examples, dtype=np.int32) % 3
        noise = rng.integers(0, 128, (num_examples, 6, 6, 1))
        inputs = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
        parts.append(Examples(inputs, labels))
    return PhaseData(*parts)


CURVES = {  # accuracy after each of four epochs, by seed
    0: (0.1, 0.2, 0.3, 0.4),
    1: (0.4, 0.5, 0.5, 0.5),
    2: (0.3, 0.6, 0.7, 0.8),
    3: (0.2, 0.9, 0.9, 0.9),
    4: (0.25, 0.3, 0.3, 0.3),
}


class CurveExecutor(LocalExecutor):
    """Answers from curves; what it was asked, how many epochs that took it, and what may go on."""

    def __init__(self, curves: dict[int, tuple[float | str, ...]], seconds: float = 1.0):
        self.curves, self.per_epoch = curves, seconds
        self.asked: list[tuple[int, int]] = []
        self.epochs = 0
        self.at: dict[str, int] = {}

    def run(
        self, requests: Sequence[Request], find_ancestor: FindAncestor, *, limit_time: bool = True
    ) -> Iterator[Trained]:
        for request in requests:
            find_ancestor(request)
            epochs = request.num_epochs - self.at.get(request.trajectory, 0)
            self.asked.append((request.seed, request.num_epochs))
            self.epochs += epochs
            self.at[request.trajectory] = request.num_epochs
            *before, answer = self.curves[request.seed][: request.num_epochs]
            if isinstance(answer, str):
                losses = tuple(accuracy for accuracy in before if isinstance(accuracy, float))
                yield Trained(failure(request, answer, f"was {answer}", losses=losses), None)
                continue
            seconds = self.per_epoch * epochs
            evaluation = Evaluation(request.digest, "ok", answer, train_seconds=seconds, wall_seconds=seconds)
            yield Trained(evaluation, initialise(jax.random.key(request.seed), request.network))

    def keep_paused(self, trajectories: Collection[str]) -> None:
        self.at = {name: epochs for name, epochs in self.at.items() if name in trajectories}


class Bench:
    """Generations on one ledger and executor."""

    def __init__(
        self,
        directory: Path,
        stack: contextlib.ExitStack,
        executor: CurveExecutor,
        stopping: StoppingConfig,
        budget: BudgetConfig,
    ):
        self.executor = executor
        ledger = stack.enter_context(contextlib.closing(Ledger(directory / "ledger.sqlite", "here")))
        self.weights = stack.enter_context(contextlib.closing(WeightStore(directory / "weights")))
        self.generations = Generations(Evaluator(ledger, self.weights, executor), stopping, budget, 4)

    def evaluate(self, requests: Sequence[Request], phase: int = 0, keep: Collection[str] = ()) -> dict[int, Outcome]:
        found = self.generations.evaluate(requests, phase=phase, keep_from=0.0, keep=keep)
        return {outcome.request.seed: outcome for outcome in found}


@pytest.fixture
def open_generations(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Opens generations of four epochs on the same ledger and weights, one after the other."""
    with contextlib.ExitStack() as stack:

        def open_one(
            curves: dict[int, tuple[float | str, ...]] | None = None,
            rungs: tuple[int, ...] = (),
            quantile: float = 0.0,
            epochs: int = 0,
            seconds: float = 0.0,
        ) -> Bench:
            executor = CurveExecutor({**CURVES, **(curves or {})})
            return Bench(tmp_path, stack, executor, StoppingConfig(rungs, quantile), BudgetConfig(epochs, seconds))

        yield open_one


@pytest.fixture
def requests(make_request: Any) -> list[Request]:
    """Of four epochs, one for each curve."""
    return [make_request(seed=seed, recipe={"epochs": 4}) for seed in range(5)]
