"""The evaluator's own rules, with an executor that answers from a table; with a real one only where bits count."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import pytest

from tests.fitness.benches import Bench, TableExecutor
from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluation import Request
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.executors.local import LocalExecutor
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.network.initialise import initialise
from vlga_jax.training.features import PhaseData


@pytest.fixture
def open_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    """Opens evaluators on the same ledger and weights, one after the other, as runs that are continued do."""
    with contextlib.ExitStack() as stack:

        def open_one(executor: LocalExecutor) -> Bench:
            ledger = stack.enter_context(contextlib.closing(Ledger(tmp_path / "ledger.sqlite", "here")))
            weights = stack.enter_context(contextlib.closing(WeightStore(tmp_path / "weights")))
            log: list[tuple[str, str]] = []

            def logged(name: str, function: Any, digest_of: Callable[..., str]) -> Any:
                def call(*args: Any) -> Any:
                    log.append((name, digest_of(*args)))
                    return function(*args)

                return call

            monkeypatch.setattr(weights, "save", logged("save", weights.save, lambda digest, _: digest))
            monkeypatch.setattr(weights, "load", logged("load", weights.load, lambda digest, _: digest))
            monkeypatch.setattr(weights, "drop", logged("drop", weights.drop, lambda digest: digest))
            monkeypatch.setattr(ledger, "record", logged("record", ledger.record, lambda request, _: request.digest))
            return Bench(Evaluator(ledger, weights, executor), ledger, weights, executor, log)

        yield open_one


def requests_of(make_request: Any, count: int) -> list[Request]:
    return [make_request(seed=seed) for seed in range(count)]


def test_evaluate_of_new_requests_yields_them_in_order_and_records_them(open_bench: Any, make_request: Any) -> None:
    requests = requests_of(make_request, 3)
    bench = open_bench(TableExecutor({0: 0.25, 1: 0.75, 2: 0.5}))
    answers = bench.evaluate(requests)
    assert [(evaluation.digest, evaluation.fitness, known) for evaluation, known in answers] == [
        (request.digest, fitness, False) for request, fitness in zip(requests, (0.25, 0.75, 0.5), strict=True)
    ]
    assert [bench.ledger.find(request) for request in requests] == [evaluation for evaluation, _ in answers]
    assert bench.executor.limited == [True] * 3


def test_evaluate_of_known_requests_trains_only_the_others_and_yields_all_in_order(
    open_bench: Any, make_request: Any
) -> None:
    requests = requests_of(make_request, 4)
    open_bench(TableExecutor({1: 0.5, 3: "diverged"})).evaluate([requests[1], requests[3]])
    bench = open_bench(TableExecutor({0: 0.25, 2: 0.75}))
    answers = bench.evaluate(requests)
    assert bench.executor.asked == [0, 2]
    assert [(evaluation.digest, known) for evaluation, known in answers] == [
        (request.digest, known) for request, known in zip(requests, (False, True, False, True), strict=True)
    ]


def test_evaluate_of_known_requests_only_does_not_touch_the_executor_or_the_weights(
    open_bench: Any, make_request: Any
) -> None:
    parent = make_request()
    heir = make_request(heir_of=parent, seed=1)
    open_bench(TableExecutor({0: 0.5, 1: 0.5})).evaluate([parent])
    open_bench(TableExecutor({0: 0.5, 1: 0.5})).evaluate([heir])
    bench = open_bench(TableExecutor({}))
    assert [known for _, known in (*bench.evaluate([parent]), *bench.evaluate([heir]))] == [True, True]
    assert bench.log == []


def test_evaluate_of_equal_requests_trains_once(open_bench: Any, make_request: Any) -> None:
    bench = open_bench(TableExecutor({0: 0.5, 1: 0.25}))
    requests = [make_request(), make_request(seed=1), make_request(), make_request()]
    assert len(bench.evaluate(requests)) == 2
    assert bench.executor.asked == [0, 1]


def test_evaluate_of_a_best_network_saves_weights_before_its_row(open_bench: Any, make_request: Any) -> None:
    requests = requests_of(make_request, 3)
    bench = open_bench(TableExecutor({0: 0.5, 1: 0.25, 2: 0.75}))
    bench.evaluate(requests)
    first, second, third = (request.digest for request in requests)
    assert bench.log == [
        ("save", first),
        ("record", first),
        ("record", second),
        ("save", third),
        ("record", third),
        ("drop", first),
    ]
    assert bench.kept(requests) == [2]


def test_evaluate_when_the_row_cannot_be_written_has_the_weights_already(
    open_bench: Any, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = requests_of(make_request, 2)
    bench = open_bench(TableExecutor({0: 0.5, 1: 0.75}))

    def full_disk(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "record", full_disk)
        with pytest.raises(OSError, match="no space left"):
            bench.evaluate(requests)
    assert bench.kept(requests) == [0]
    assert bench.ledger.find(requests[0]) is None
    assert [known for _, known in bench.evaluate(requests)] == [False, False]
    assert bench.executor.asked == [0, 0, 1]


@pytest.mark.parametrize(
    ("keep_from", "fitness", "kept"),
    [
        (0.0, (0.25, 0.75, 0.5), [1]),
        (0.6, (0.25, 0.75, 0.5), [1]),
        (0.8, (0.25, 0.75, 0.5), []),
        (0.75, (0.25, 0.75, 0.5), [1]),  # as good as the phase's best so far: it may be needed
        (0.0, (0.5, 0.5, 0.25), [0, 1]),
        (0.0, (0.0, "diverged", 0.0), [0, 2]),
        (0.0, ("diverged", "out_of_memory", "out_of_time"), []),
    ],
)
def test_evaluate_of_a_generation_keeps_the_weights_that_may_be_needed(
    open_bench: Any, make_request: Any, keep_from: float, fitness: tuple[float | str, ...], kept: list[int]
) -> None:
    requests = requests_of(make_request, 3)
    bench = open_bench(TableExecutor(dict(enumerate(fitness))))
    bench.evaluate(requests, keep_from)
    assert bench.kept(requests) == kept


def test_evaluate_beside_a_known_better_one_keeps_no_weights(open_bench: Any, make_request: Any) -> None:
    requests = requests_of(make_request, 2)
    open_bench(TableExecutor({1: 0.75})).evaluate(requests[1:])
    bench = open_bench(TableExecutor({0: 0.5}))
    bench.evaluate(requests)
    assert bench.kept(requests) == [1]


@pytest.mark.parametrize("status", ["diverged", "out_of_memory", "out_of_time", "too_many_parameters"])
def test_evaluate_of_a_failure_records_it_and_goes_on(open_bench: Any, make_request: Any, status: str) -> None:
    requests = requests_of(make_request, 2)
    bench = open_bench(TableExecutor({0: status, 1: 0.5}))
    (failed, _), (trained, _) = bench.evaluate(requests)
    assert (failed.status, failed.fitness, failed.reason) == (status, 0.0, f"was {status}")
    assert bench.ledger.find(requests[0]) == failed
    assert (trained.status, trained.fitness) == ("ok", 0.5)
    again = open_bench(TableExecutor({}))
    assert [evaluation for evaluation, _ in again.evaluate(requests)] == [failed, trained], (
        "replayed, not decided again"
    )


def test_evaluate_of_what_the_compiler_refused_is_asked_again_by_the_next_process(
    open_bench: Any, make_request: Any
) -> None:
    requests = requests_of(make_request, 2)
    (failed, _), _ = open_bench(TableExecutor({0: "not_compiled", 1: 0.5})).evaluate(requests)
    assert (failed.status, failed.fitness) == ("not_compiled", 0.0)
    again = open_bench(TableExecutor({0: 0.75}))
    found = [(evaluation.fitness, known) for evaluation, known in again.evaluate(requests)]
    assert found == [(0.75, False), (0.5, True)]


@pytest.mark.parametrize("error", [TypeError("a bug"), RuntimeError("INTERNAL: a bug")])
def test_evaluate_with_a_programming_error_propagates_and_records_nothing_for_it(
    open_bench: Any, make_request: Any, error: Exception
) -> None:
    requests = requests_of(make_request, 3)
    bench = open_bench(TableExecutor({0: 0.5, 1: error, 2: 0.75}))
    with pytest.raises(type(error), match="a bug"):
        bench.evaluate(requests)
    assert [bench.ledger.find(request) is None for request in requests] == [False, True, True]
    assert bench.kept(requests) == [0]


def test_evaluate_of_heirs_hands_their_ancestors_weights_on(open_bench: Any, make_request: Any) -> None:
    parent = make_request(seed=7)
    heirs = [make_request(heir_of=parent, seed=seed) for seed in range(2)]
    bench = open_bench(TableExecutor({7: 0.5, 0: 0.5, 1: 0.25}))
    bench.evaluate([parent])
    bench.evaluate(heirs)
    assert bench.executor.ancestors[0] is None
    assert [name for name, _ in bench.log].count("load") == 0, "the best of a phase is remembered"
    other = open_bench(TableExecutor({2: 0.5, 3: 0.25}))
    other.evaluate([make_request(heir_of=parent, seed=seed) for seed in (2, 3)])
    assert [entry for entry in other.log if entry[0] == "load"] == [("load", parent.digest)]
    for ancestor in (*bench.executor.ancestors[1:], *other.executor.ancestors):
        assert ancestor is not None and ancestor.request == parent
        chex.assert_trees_all_equal(ancestor.variables, initialise(jax.random.key(7), parent.network))


def test_evaluate_of_heirs_whose_ancestors_weights_are_gone_trains_it_again(open_bench: Any, make_request: Any) -> None:
    parent = make_request(seed=7)
    open_bench(TableExecutor({7: 0.5})).evaluate([parent])
    bench = open_bench(TableExecutor({7: 0.5, 0: 0.25}))
    recorded = bench.ledger.find(parent)
    bench.weights.drop(parent.digest)
    bench.evaluate([make_request(heir_of=parent, seed=0)])
    assert (bench.executor.asked, bench.executor.limited) == ([7, 0], [False, True])
    assert bench.weights.has(parent.digest)
    assert bench.ledger.find(parent) == recorded
    assert ("record", parent.digest) not in bench.log


def test_variables_of_an_unknown_request_raises(open_bench: Any, make_request: Any) -> None:
    with pytest.raises(KeyError):
        open_bench(TableExecutor({})).evaluator.variables(make_request().digest)


def test_variables_of_a_request_that_fails_again_says_why(open_bench: Any, make_request: Any) -> None:
    request = make_request()
    bench = open_bench(TableExecutor({0: "diverged"}))
    bench.evaluate([request])
    with pytest.raises(InputError, match="was diverged"):
        bench.evaluator.variables(request.digest)


def test_variables_of_weights_that_are_gone_are_written_when_they_are_returned(
    open_bench: Any, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(seed=7)
    bench = open_bench(TableExecutor({7: 0.5}))
    bench.evaluate([request])
    bench.weights.drop(request.digest)
    write, written = bench.weights._write, []

    def slowly(*arguments: Any) -> None:
        time.sleep(0.2)
        write(*arguments)
        written.append(arguments[0])

    monkeypatch.setattr(bench.weights, "_write", slowly)
    bench.evaluator.variables(request.digest)
    assert written == [request.digest]  # Orbax does not bear two savers at a time


def test_variables_of_weights_that_are_gone_are_trained_to_the_same_bits(
    open_bench: Any, make_request: Any, images: PhaseData
) -> None:
    parent = make_request()
    heir = make_request(heir_of=parent, block={"pool": None})

    def search(bench: Bench) -> Any:
        bench.evaluate([parent])
        bench.evaluate([heir])
        return bench.evaluator.variables(heir.digest)

    with contextlib.closing(LocalExecutor(images, cache_features=True, compile_threads=1)) as executor:
        first = open_bench(executor)
        before = search(first)
        ancestor = first.evaluator.variables(parent.digest)
    with contextlib.closing(LocalExecutor(images, cache_features=True, compile_threads=1)) as executor:
        second = open_bench(executor)
        for request in (parent, heir):
            second.weights.drop(request.digest)
        after = search(second)
        assert second.weights.has(parent.digest) and second.weights.has(heir.digest)
        chex.assert_trees_all_equal(second.evaluator.variables(parent.digest), ancestor)
    chex.assert_trees_all_equal(after, before)
    chex.assert_trees_all_equal(after["params"]["block_0"], ancestor["params"]["block_0"])
