"""Who stops and who goes on; accuracies come from a table of curves."""

import math
from typing import Any

import pytest

from vlga_jax.fitness.evaluation import Request
from vlga_jax.fitness.generation import Outcome


def summary(outcomes: dict[int, Outcome]) -> dict[int, tuple[str, int, float]]:
    return {
        seed: (outcomes[seed].status, outcomes[seed].request.num_epochs, outcomes[seed].evaluation.fitness)
        for seed in sorted(outcomes)
    }


def test_evaluate_without_stopping_trains_everyone_to_the_end(open_generations: Any, requests: list[Request]) -> None:
    bench = open_generations()
    outcomes = bench.evaluate(requests)
    assert summary(outcomes) == {seed: ("ok", 4, curve[3]) for seed, curve in bench.executor.curves.items()}
    assert [outcome.standing for outcome in outcomes.values()] == [curve[3] for curve in bench.executor.curves.values()]
    assert bench.generations.epochs == bench.executor.epochs == 20
    assert bench.executor.asked == [(seed, 4) for seed in range(5)]


def test_evaluate_with_rungs_lets_the_better_half_go_on(open_generations: Any, requests: list[Request]) -> None:
    bench = open_generations(rungs=(1, 2))
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


def test_evaluate_with_rungs_keeps_what_the_stages_before_the_last_took(
    open_generations: Any, requests: list[Request]
) -> None:
    outcomes = open_generations(rungs=(1, 2)).evaluate(requests)
    stages = {seed: (*outcome.earlier, outcome.evaluation) for seed, outcome in outcomes.items()}
    assert {seed: len(each) for seed, each in stages.items()} == {0: 1, 1: 3, 2: 3, 3: 1, 4: 2}
    assert [stage.digest for stage in stages[1]] == [requests[1].until(epochs).digest for epochs in (1, 2, 4)]
    assert [stage.train_seconds for stage in stages[1]] == [1.0, 1.0, 2.0]


def test_evaluate_with_rungs_trains_no_epoch_twice(open_generations: Any, requests: list[Request]) -> None:
    bench = open_generations(rungs=(1, 2, 3))
    bench.evaluate(requests)
    assert bench.executor.epochs == 5 + 3 + 2 + 1
    assert bench.executor.at == {}, "nothing is paused after a generation"


def test_evaluate_of_a_failure_in_between_settles_it_and_does_not_count_it(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations({1: ("diverged",) * 4, 2: (0.3, "out_of_memory", 0.0, 0.0)}, rungs=(1, 2))
    outcomes = bench.evaluate(requests)
    assert [(seed, outcomes[seed].status) for seed in sorted(outcomes)] == [
        (0, "stopped"),
        (1, "diverged"),
        (2, "out_of_memory"),
        (3, "stopped"),
        (4, "ok"),
    ]
    assert math.isnan(outcomes[1].standing) and math.isnan(outcomes[2].standing)


def test_evaluate_again_keeps_what_a_network_got(open_generations: Any, requests: list[Request]) -> None:
    bench = open_generations(rungs=(1,))
    first = bench.evaluate(requests)
    asked = list(bench.executor.asked)
    assert bench.evaluate(requests[::-1]) == first
    assert bench.executor.asked == asked


def test_evaluate_with_a_reference_stops_who_lags_behind_the_generation_before(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(quantile=0.5)
    first = bench.evaluate(requests[1:4])  # after one epoch 0.2, 0.3, 0.4; after two 0.5, 0.6, 0.9
    assert {outcome.status for outcome in first.values()} == {"ok"}, "nobody is before the first generation"
    second = bench.evaluate([requests[2], requests[4], requests[0]])
    assert summary(second) == {0: ("stopped", 1, 0.1), 2: ("ok", 4, 0.8), 4: ("stopped", 1, 0.25)}
    assert second[0].standing < second[4].standing < second[2].standing


def test_evaluate_with_a_reference_of_another_phase_stops_nobody(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(quantile=1.0)
    bench.evaluate([requests[3]])
    assert bench.evaluate([requests[0]], phase=1)[0].status == "ok"


def test_evaluate_with_a_reference_leaves_out_the_accuracy_of_who_failed(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations({1: ("diverged",) * 4}, quantile=0.5)
    bench.evaluate([requests[1], requests[3]])
    assert bench.evaluate([requests[0]])[0].request.num_epochs == 1, "0.1 is below 0.2, not below half of it"


def test_evaluate_with_rungs_within_a_budget_lets_the_fittest_go_on(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(rungs=(1, 2), epochs=5 + 2)
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


def test_evaluate_of_points_counts_only_who_was_trained_to_the_end(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(rungs=(2,))
    bench.evaluate(requests[:2])
    epochs, seconds, fitness = zip(*bench.generations.points, strict=True)
    assert epochs == (2, 4, 6) and seconds == (2.0, 4.0, 6.0)
    assert math.isnan(fitness[0]) and math.isnan(fitness[1]) and fitness[2] == 0.5


def test_evaluate_of_parents_to_be_keeps_their_weights_wherever_they_stopped(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(rungs=(1,))
    outcomes = bench.evaluate(requests, keep={requests[0].trajectory})
    assert bench.weights.has(outcomes[0].request.digest)
    assert not bench.weights.has(outcomes[3].request.digest)


def test_evaluate_of_parents_to_be_that_go_on_keeps_their_last_weights_alone(
    open_generations: Any, requests: list[Request]
) -> None:
    bench = open_generations(rungs=(1, 2))
    outcomes = bench.evaluate(requests[1:2], keep={requests[1].trajectory})
    assert outcomes[1].request.num_epochs == 4
    assert [bench.weights.has(requests[1].until(epochs).digest) for epochs in (1, 2, 4)] == [False, False, True]


def test_num_unknown_of_a_ledger_that_knows_some_counts_the_others(
    open_generations: Any, requests: list[Request]
) -> None:
    open_generations(rungs=(1,)).evaluate(requests[:2])
    bench = open_generations(rungs=(1,))
    assert bench.generations.num_unknown([*requests, requests[4]]) == 3
    bench.evaluate(requests)
    assert bench.generations.num_unknown(requests) == 0


def test_evaluate_after_an_interruption_ends_the_same(open_generations: Any, requests: list[Request]) -> None:
    bench = open_generations(rungs=(1, 2))
    stage = bench.generations.evaluate(requests, phase=0, keep_from=0.0)
    next(stage)  # all of a rung are in the ledger, and the first has stopped
    stage.close()
    resumed = open_generations(rungs=(1, 2))
    outcomes = resumed.evaluate(requests)
    assert summary(outcomes)[2] == ("ok", 4, 0.8)
    assert all(epochs > 1 for _, epochs in resumed.executor.asked)


def test_keep_no_weights_again_deletes_only_those_it_did_not_delete_before(
    open_generations: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = open_generations()
    dropped: list[str] = []
    monkeypatch.setattr(bench.weights, "drop", dropped.append)
    for digests in ({"a"}, {"a", "b"}, {"b"}, {"a", "b"}):
        bench.generations.keep_no_weights(digests)
    assert dropped == ["a", "b"]
