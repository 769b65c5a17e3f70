"""What counts against a budget, and when it ends a search; accuracies come from a table of curves."""

from typing import Any

import pytest

from vlga_jax.fitness.evaluation import Request


def line_of(make_request: Any, *seeds: int) -> list[Request]:
    """Requests of four epochs, each the heir of the one before."""
    line: list[Request] = []
    for seed in seeds:
        line.append(make_request(seed=seed, recipe={"epochs": 4}, heir_of=line[-1] if line else None))
    return line


def test_evaluate_within_a_budget_of_epochs_leaves_out_whom_it_does_not_reach(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(epochs=11)
    assert not bench.generations.exhausted
    assert list(bench.evaluate(requests)) == [0, 1]
    assert bench.generations.epochs == 8 and bench.generations.exhausted
    assert [point[0] for point in bench.generations.points] == [4, 8]


def test_evaluate_within_a_budget_of_seconds_leaves_out_the_network_that_passes_it(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(seconds=9.0)
    assert list(bench.evaluate(requests)) == [0, 1], "4 and 8 seconds are within it, 12 are not"
    assert bench.executor.asked == [(0, 4), (1, 4), (2, 4)]
    assert bench.generations.exhausted
    again = open_generations(dict.fromkeys(range(5), ("never asked",) * 4), seconds=9.0)
    assert list(again.evaluate(requests)) == [0, 1], "what the ledger says, not the clock"


@pytest.mark.parametrize("rungs", [(), (1,), (1, 2), (3,)])
def test_evaluate_of_a_network_that_fails_counts_the_epochs_that_it_began(
    rungs: tuple[int, ...], open_generations: Any, requests: list[Request]
) -> None:
    for num_whole in range(4):
        curve = (0.5,) * num_whole + ("diverged",) * (4 - num_whole)
        bench = open_generations({num_whole: curve}, rungs)
        assert bench.evaluate([requests[num_whole]])[num_whole].status == "diverged"
        assert bench.generations.epochs == num_whole + 1


def test_evaluate_of_failures_within_a_budget_goes_on_with_what_they_left_over(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations({0: ("diverged",) * 4, 1: ("diverged",) * 4}, epochs=11)
    assert list(bench.evaluate(requests)) == [0, 1, 2, 3]
    assert bench.generations.epochs == 1 + 1 + 4 + 4 and bench.generations.exhausted


def test_evaluate_of_rejected_networks_counts_no_epochs(open_generations: Any, make_request: Any) -> None:
    limits = [{"max_parameters": 1}, {}, {}, {"max_flops": 1}, {}]
    requests = [make_request(seed=seed, recipe={"epochs": 4}, limits=each) for seed, each in enumerate(limits)]
    rejected = dict.fromkeys((0, 3), ("too_many",) * 4)
    for _ in range(2):
        bench = open_generations(rejected, epochs=8)
        assert list(bench.evaluate(requests)) == [0, 1, 2, 3]
        assert [point[0] for point in bench.generations.points] == [0, 4, 8, 8]


def test_exhausted_of_generations_that_train_nothing_is_so_after_a_hundred_in_a_row(
    open_generations: Any, requests: list[Request], make_request: Any
) -> None:
    rejected = make_request(seed=0, limits={"max_parameters": 1}, recipe={"epochs": 4})
    limited, free = (open_generations({0: ("too_many",) * 4}, epochs=epochs) for epochs in (20, 0))
    for bench in (limited, free):
        for generation in [[rejected]] * 99 + [requests[1:2]] + [[rejected], requests[1:2]] * 49 + [[rejected]]:
            bench.evaluate(generation)
            assert not bench.generations.exhausted
        bench.evaluate([rejected])
    assert limited.generations.exhausted and not free.generations.exhausted


def test_evaluate_of_an_heir_to_deleted_weights_counts_the_epochs_that_make_them_again(
    open_generations: Any, make_request: Any
) -> None:
    parent, child, grandchild = line_of(make_request, 0, 1, 2)
    stranger, other = line_of(make_request, 3, 4)
    keep = {request.trajectory for request in (parent, child, stranger)}
    for trains in (True, False):
        bench = open_generations()
        for generation in ([parent, stranger], [child, other]):
            bench.evaluate(generation, keep=keep)
        bench.generations.keep_no_weights({parent.digest, child.digest})
        bench.evaluate([grandchild])
        assert bench.generations.epochs == 4 * (5 + 2), "five networks, two of them twice"
        assert bench.executor.epochs == (4 * 7 if trains else 0), "a replay counts what it does not train"
        bench.generations.keep_no_weights({parent.digest, child.digest})
        assert not bench.weights.has(parent.digest) and not bench.weights.has(child.digest)


def test_evaluate_of_an_heir_to_deleted_weights_that_the_budget_cannot_make_again_ends_it(
    open_generations: Any, make_request: Any
) -> None:
    parent, child = line_of(make_request, 0, 1)
    bench = open_generations(epochs=11)
    bench.evaluate([parent])
    bench.generations.keep_no_weights({parent.digest})
    assert not bench.generations.exhausted
    assert bench.evaluate([child]) == {}
    assert bench.generations.epochs == bench.executor.epochs == 4 and bench.generations.exhausted
