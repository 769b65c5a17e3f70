"""Who stops, who goes on and what a budget allows, with an executor that reads accuracies from a table of curves."""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from vlga_jax.fitness.evaluation import Evaluation, Request, failure
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.executors.local import FindAncestor, LocalExecutor, Trained
from vlga_jax.fitness.generation import BudgetConfig, Generations, Outcome
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.stopping import StoppingConfig
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.network.initialise import initialise

pytestmark = pytest.mark.usefixtures("cache_home")
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
            answer = self.curves[request.seed][request.num_epochs - 1]
            if isinstance(answer, str):
                yield Trained(failure(request, answer, f"was {answer}"), None)
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
def open_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
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
    return [make_request(seed=seed, recipe={"epochs": 4}) for seed in range(5)]


def summary(outcomes: dict[int, Outcome]) -> dict[int, tuple[str, int, float]]:
    return {
        seed: (outcomes[seed].status, outcomes[seed].request.num_epochs, outcomes[seed].evaluation.fitness)
        for seed in sorted(outcomes)
    }


def test_evaluate_without_stopping_trains_everyone_to_the_end(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench()
    outcomes = bench.evaluate(requests)
    assert summary(outcomes) == {seed: ("ok", 4, curve[3]) for seed, curve in CURVES.items()}
    assert [outcome.standing for outcome in outcomes.values()] == [curve[3] for curve in CURVES.values()]
    assert bench.generations.epochs == bench.executor.epochs == 20
    assert bench.executor.asked == [(seed, 4) for seed in range(5)]


def test_evaluate_with_rungs_lets_the_better_half_go_on(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench(rungs=(1, 2))
    outcomes = bench.evaluate(requests)
    assert summary(outcomes) == {
        0: ("stopped", 1, 0.1),
        1: ("ok", 4, 0.5),
        2: ("ok", 4, 0.8),
        3: ("stopped", 1, 0.2),  # which would have become the best: the price
        4: ("stopped", 2, 0.3),
    }
    standings = {seed: outcome.standing for seed, outcome in outcomes.items()}
    assert sorted(standings, key=standings.__getitem__) == [0, 3, 4, 1, 2]
    assert bench.executor.epochs == bench.generations.epochs == 5 * 1 + 3 * 1 + 2 * 2
    assert bench.generations.epochs_saved == 2 * 3 + 1 * 2


def test_evaluate_with_rungs_trains_no_epoch_twice(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench(rungs=(1, 2, 3))
    bench.evaluate(requests)
    assert bench.executor.epochs == 5 + 3 + 2 + 1
    assert bench.executor.at == {}, "nothing is paused after a generation"


def test_evaluate_of_a_failure_in_between_settles_it_and_does_not_count_it(
    open_bench: Any, requests: list[Request]
) -> None:
    bench = open_bench({1: ("diverged",) * 4, 2: (0.3, "out_of_memory", 0.0, 0.0)}, rungs=(1, 2))
    outcomes = bench.evaluate(requests)
    assert [(seed, outcomes[seed].status) for seed in sorted(outcomes)] == [
        (0, "stopped"),
        (1, "diverged"),
        (2, "out_of_memory"),
        (3, "stopped"),
        (4, "ok"),
    ]
    assert math.isnan(outcomes[1].standing) and math.isnan(outcomes[2].standing)


def test_evaluate_again_keeps_what_a_network_got(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench(rungs=(1,))
    first = bench.evaluate(requests)
    asked = list(bench.executor.asked)
    assert bench.evaluate(requests[::-1]) == first
    assert bench.executor.asked == asked


def test_evaluate_with_a_reference_stops_who_lags_behind_the_generation_before(
    open_bench: Any, requests: list[Request]
) -> None:
    bench = open_bench(quantile=0.5)
    first = bench.evaluate(requests[1:4])  # after one epoch 0.2, 0.3, 0.4; after two 0.5, 0.6, 0.9
    assert {outcome.status for outcome in first.values()} == {"ok"}, "nobody is before the first generation"
    second = bench.evaluate([requests[2], requests[4], requests[0]])
    assert summary(second) == {0: ("stopped", 1, 0.1), 2: ("ok", 4, 0.8), 4: ("stopped", 1, 0.25)}
    assert second[0].standing < second[4].standing < second[2].standing


def test_evaluate_with_a_reference_of_another_phase_stops_nobody(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench(quantile=1.0)
    bench.evaluate([requests[3]])
    assert bench.evaluate([requests[0]], phase=1)[0].status == "ok"


def test_evaluate_with_a_reference_leaves_out_the_accuracy_of_who_failed(
    open_bench: Any, requests: list[Request]
) -> None:
    bench = open_bench({1: ("diverged",) * 4}, quantile=0.5)
    bench.evaluate([requests[1], requests[3]])
    assert bench.evaluate([requests[0]])[0].request.num_epochs == 1, "0.1 is below 0.2, not below half of it"


def test_evaluate_within_a_budget_of_epochs_leaves_out_whom_it_does_not_reach(
    open_bench: Any, requests: list[Request]
) -> None:
    bench = open_bench(epochs=11)
    assert not bench.generations.exhausted
    assert list(bench.evaluate(requests)) == [0, 1]
    assert bench.generations.epochs == 8 and bench.generations.exhausted
    assert [point[0] for point in bench.generations.points] == [4, 8]


def test_evaluate_with_rungs_within_a_budget_lets_the_fittest_go_on(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench(rungs=(1, 2), epochs=5 + 2)
    outcomes = bench.evaluate(requests)
    assert summary(outcomes) == {
        0: ("stopped", 1, 0.1),
        1: ("stopped", 2, 0.5),
        2: ("stopped", 2, 0.6),
        3: ("stopped", 1, 0.2),
        4: ("stopped", 1, 0.25),
    }
    assert bench.generations.epochs == 7 and bench.generations.exhausted
    assert bench.generations.epochs_saved == 2 * 3 + 1 * 2, "two more were better, and the budget ended"


def test_evaluate_within_a_budget_of_seconds_leaves_out_the_network_that_passes_it(
    open_bench: Any, requests: list[Request]
) -> None:
    bench = open_bench(seconds=9.0)
    assert list(bench.evaluate(requests)) == [0, 1], "4 and 8 seconds are within it, 12 are not"
    assert bench.executor.asked == [(0, 4), (1, 4), (2, 4)]
    assert bench.generations.exhausted
    again = open_bench(dict.fromkeys(range(5), ("never asked",) * 4), seconds=9.0)
    assert list(again.evaluate(requests)) == [0, 1], "what the ledger says, not the clock"


def test_evaluate_of_points_counts_only_who_was_trained_to_the_end(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench(rungs=(2,))
    bench.evaluate(requests[:2])
    epochs, seconds, fitness = zip(*bench.generations.points, strict=True)
    assert epochs == (2, 4, 6) and seconds == (2.0, 4.0, 6.0)
    assert math.isnan(fitness[0]) and math.isnan(fitness[1]) and fitness[2] == 0.5


def test_evaluate_of_parents_to_be_keeps_their_weights_wherever_they_stopped(
    open_bench: Any, requests: list[Request]
) -> None:
    bench = open_bench(rungs=(1,))
    outcomes = bench.evaluate(requests, keep={requests[0].trajectory})
    assert bench.weights.has(outcomes[0].request.digest)
    assert not bench.weights.has(outcomes[3].request.digest)


def test_evaluate_of_parents_to_be_that_go_on_keeps_their_last_weights_alone(
    open_bench: Any, requests: list[Request]
) -> None:
    bench = open_bench(rungs=(1, 2))
    outcomes = bench.evaluate(requests[1:2], keep={requests[1].trajectory})
    assert outcomes[1].request.num_epochs == 4
    assert [bench.weights.has(requests[1].until(epochs).digest) for epochs in (1, 2, 4)] == [False, False, True]


def test_num_unknown_of_a_ledger_that_knows_some_counts_the_others(open_bench: Any, requests: list[Request]) -> None:
    open_bench(rungs=(1,)).evaluate(requests[:2])
    bench = open_bench(rungs=(1,))
    assert bench.generations.num_unknown([*requests, requests[4]]) == 3
    bench.evaluate(requests)
    assert bench.generations.num_unknown(requests) == 0


def test_evaluate_after_an_interruption_ends_the_same(open_bench: Any, requests: list[Request]) -> None:
    bench = open_bench(rungs=(1, 2))
    stage = bench.generations.evaluate(requests, phase=0, keep_from=0.0)
    next(stage)  # all of a rung are in the ledger, and the first has stopped
    stage.close()
    resumed = open_bench(rungs=(1, 2))
    outcomes = resumed.evaluate(requests)
    assert summary(outcomes)[2] == ("ok", 4, 0.8)
    assert all(epochs > 1 for _, epochs in resumed.executor.asked)


def test_keep_no_weights_again_deletes_only_those_it_did_not_delete_before(
    open_bench: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_bench()
    dropped: list[str] = []
    monkeypatch.setattr(bench.weights, "drop", dropped.append)
    for digests in ({"a"}, {"a", "b"}, {"b"}, {"a", "b"}):
        bench.generations.keep_no_weights(digests)
    assert dropped == ["a", "b"]


def test_evaluate_of_an_heir_to_deleted_weights_counts_the_epochs_that_make_them_again(
    open_bench: Any, make_request: Any
) -> None:
    parent, child, grandchild = line_of(make_request, 0, 1, 2)
    stranger, other = line_of(make_request, 3, 4)  # the last whose weights are in memory
    keep = {request.trajectory for request in (parent, child, stranger)}
    for trains in (True, False):
        bench = open_bench()
        for generation in ([parent, stranger], [child, other]):
            bench.evaluate(generation, keep=keep)
        bench.generations.keep_no_weights({parent.digest, child.digest})
        bench.evaluate([grandchild])
        assert bench.generations.epochs == 4 * (5 + 2), "five networks, two of them twice"
        assert bench.executor.epochs == (4 * 7 if trains else 0), "a replay counts what it does not train"
        bench.generations.keep_no_weights({parent.digest, child.digest})
        assert not bench.weights.has(parent.digest) and not bench.weights.has(child.digest)


def test_evaluate_of_an_heir_to_deleted_weights_that_the_budget_cannot_make_again_ends_it(
    open_bench: Any, make_request: Any
) -> None:
    parent, child = line_of(make_request, 0, 1)
    bench = open_bench(epochs=11)
    bench.evaluate([parent])
    bench.generations.keep_no_weights({parent.digest})
    assert not bench.generations.exhausted
    assert bench.evaluate([child]) == {}
    assert bench.generations.epochs == bench.executor.epochs == 4 and bench.generations.exhausted


def line_of(make_request: Any, *seeds: int) -> list[Request]:
    """Requests of four epochs, each the heir of the one before."""
    line: list[Request] = []
    for seed in seeds:
        line.append(make_request(seed=seed, recipe={"epochs": 4}, heir_of=line[-1] if line else None))
    return line
