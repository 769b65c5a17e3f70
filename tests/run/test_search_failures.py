"""A search whose networks fail: it goes on as long as there is anything to go on from."""

from typing import Any

import pytest

from tests.run.searching import by_digest, champions
from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluation import Request


def test_search_run_with_failures_gives_them_the_worst_fitness_and_goes_on(search: Any) -> None:
    def judge(request: Request) -> float | str:
        return "diverged" if request.network.blocks[-1].a.kernel == 3 else by_digest(request)

    outcome = search({"search.num_generations": 4}, judge)
    failed = [row for row in outcome.result.rows if row.chromosome[-1]["a_kernel"] == 3]
    assert failed and all((row.status, row.fitness) == ("diverged", 0.0) for row in failed)
    others = [row for row in outcome.result.rows if row not in failed]
    assert others and all(row.status == "ok" and row.fitness > 0 for row in others)
    assert outcome.result.evaluations[outcome.result.request.digest].status == "ok"


def test_search_run_with_a_first_generation_of_failures_goes_on_to_the_next(search: Any) -> None:
    asked: list[Request] = []

    def judge(request: Request) -> float | str:
        asked.append(request)
        return "diverged" if len(asked) <= 4 else by_digest(request)

    outcome = search({"search.num_generations": 4, "search.num_phases": 1, "search.mutation_rate": 1.0}, judge)
    assert {row.status for row in outcome.result.rows if row.generation == 0} == {"diverged"}
    assert outcome.result.evaluations[outcome.result.request.digest].status == "ok"


@pytest.mark.parametrize("winner", ["last_phase", "best_phase"])
def test_search_run_with_a_later_phase_of_failures_ends_with_the_one_before(search: Any, winner: str) -> None:
    def second_phase_fails(request: Request) -> float | str:
        return "out_of_memory" if len(request.network.blocks) > 1 else by_digest(request)

    outcome = search({"search.num_phases": 3, "search.winner": winner}, second_phase_fails)
    assert {row.status for row in outcome.result.rows if row.phase == 1} == {"out_of_memory"}
    assert max(row.phase for row in outcome.result.rows) == 1
    assert outcome.result.winner.place.phase == 0
    assert outcome.result.best_fitness == outcome.result.winner.fitness > 0


def test_search_run_with_nothing_but_failures_is_refused(search: Any) -> None:
    with pytest.raises(InputError, match="phase 1.*no network could be trained: was out_of_memory"):
        search({"search.num_phases": 3}, lambda request: "out_of_memory")


def test_search_run_with_a_phase_of_failures_under_the_stop_rule_ends_with_the_one_before(search: Any) -> None:
    def second_phase_fails(request: Request) -> float | str:
        return "too_many_parameters" if len(request.network.blocks) > 1 else by_digest(request)

    outcome = search({"search.num_phases": 9, "search.stop_rule": True}, second_phase_fails)
    assert max(row.phase for row in outcome.result.rows) == 1
    assert outcome.result.winner.place.phase == 0
    assert outcome.result.request.digest == champions(outcome.result.rows)[0].network
