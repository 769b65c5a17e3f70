"""The loop with real stores and a real strategy; what a network is worth comes from its digest, without training."""

from pathlib import Path
from typing import Any

import pytest

from tests.run.searching import by_digest, champions
from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluation import Request
from vlga_jax.genome.chromosome import from_values
from vlga_jax.genome.space import make_search_space
from vlga_jax.run.history import read_csv


def test_search_run_of_three_phases_has_a_row_for_each_individual(search: Any, tmp_path: Path) -> None:
    outcome = search({"search.num_phases": 3, "search.num_generations": 3})
    rows = outcome.result.rows
    places = [(row.phase, row.generation, row.individual) for row in rows]
    assert places == [(phase, generation, one) for phase in range(3) for generation in range(3) for one in range(4)]
    assert read_csv(tmp_path / "history.csv") == list(rows)
    assert all(len(row.chromosome) == row.phase + 1 for row in rows)
    assert outcome.result.best_fitness == max(row.fitness for row in rows)
    assert outcome.result.trained == set(outcome.result.evaluations)


def test_search_run_with_rungs_counts_the_seconds_of_every_stage(search: Any) -> None:
    outcome = search({"stopping.rungs": (1,), "fitness.epochs": 2, "search.num_phases": 1})
    assert len(outcome.executor.asked) > len(outcome.result.evaluations)
    assert outcome.result.train_seconds == 3.0 * len(outcome.executor.asked)


def test_search_run_of_survivors_and_twins_trains_each_network_once(search: Any) -> None:
    outcome = search({"search.num_generations": 6, "search.num_phases": 1, "space.kernels": (1,)})
    rows = outcome.result.rows
    asked = [request.digest for request in outcome.executor.asked]
    assert len(set(asked)) == len(asked) < len(rows)
    previous = {(row.generation, row.individual): row for row in rows}
    survivors = [row for row in rows if row.origin == "survivor"]
    assert survivors
    for row in survivors:
        parent = previous[row.generation - 1, row.parent_a]
        assert (row.network, row.fitness, row.chromosome) == (parent.network, parent.fitness, parent.chromosome)
    told = {(row.phase, row.generation, row.individual): replayed for row, _, replayed in outcome.listener.individuals}
    assert all(told[row.phase, row.generation, row.individual] for row in survivors)
    assert list(told.values()).count(False) == len(asked)


def test_search_run_of_chromosomes_that_differ_in_silent_genes_shares_the_evaluation(search: Any) -> None:
    silent = {
        "space.activations": ("relu",),
        "space.kernels": (1,),
        "space.batch_norm": (True,),
        "space.include_pool": (False,),
        "space.include_skip": (False,),
        "search.num_phases": 1,
        "search.population_size": 8,
        "search.num_generations": 1,
    }
    outcome = search(silent)
    assert len({str(row.chromosome) for row in outcome.result.rows}) == 2, "pools of two types, never built"
    assert len(outcome.executor.asked) == 1
    assert len({row.network for row in outcome.result.rows}) == 1


def test_search_run_of_a_later_phase_inherits_the_first_best_of_the_one_before(search: Any, make_config: Any) -> None:
    outcome = search({"search.num_phases": 3})
    best = champions(outcome.result.rows)
    space = make_search_space(make_config().space)
    for request, ancestor in zip(outcome.executor.asked, outcome.executor.ancestors, strict=True):
        phase = len(request.network.blocks) - 1
        assert request.num_inherited == phase
        if phase == 0:
            assert ancestor is None and request.inherited_from is None
        else:
            assert ancestor is not None
            assert request.inherited_from == best[phase - 1].network == ancestor.request.digest
            assert request.network.blocks[:phase] == ancestor.request.network.blocks
    for row in outcome.result.rows:
        if row.phase:
            assert row.chromosome[: row.phase] == best[row.phase - 1].chromosome
    winner = from_values(space, best[-1].chromosome)
    assert (outcome.result.winner.chromosome.genes == winner.genes).all()
    assert outcome.result.request.digest == best[-1].network


def test_search_run_to_the_end_keeps_the_weights_of_each_phases_best_only(search: Any) -> None:
    outcome = search({"search.num_phases": 3, "search.num_generations": 3})
    assert outcome.weights == {row.network for row in champions(outcome.result.rows)}


def test_search_run_again_trains_nothing_and_gives_the_same(search: Any, tmp_path: Path) -> None:
    first = search()
    written = (tmp_path / "history.csv").read_bytes()
    second = search()
    assert second.executor.asked == []
    assert second.result.trained == frozenset()
    assert (second.result.rows, second.result.evaluations) == (first.result.rows, first.result.evaluations)
    assert (tmp_path / "history.csv").read_bytes() == written
    assert all(replayed and seconds == 0.0 for _, seconds, replayed in second.listener.individuals)
    assert second.weights == first.weights


def test_search_run_with_fine_tuning_hands_on_whichever_is_fitter(search: Any) -> None:
    outcome = search({"search.num_phases": 6, "search.num_generations": 1, "search.fine_tuning_rate": 0.5})
    rows, requests = outcome.result.rows, outcome.result.requests
    best = champions(rows)
    assert {row.origin for row in best} == {"initial", "fine_tuned"}, "both happen with these digests"
    for row in rows:
        request = requests[row.network]
        tuned = row.origin == "fine_tuned"
        assert row.learning_rate == 0.01 * (0.5 if tuned else 1.0)
        assert (request.num_inherited, request.sources) == (
            (0, tuple(range(row.phase + 1))) if tuned else (row.phase, None)
        )
        if row.phase and not tuned:
            assert request.inherited_from == best[row.phase - 1].network
    assert outcome.weights == {row.network for row in best}


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("place", [0, 2, 5, 8])
def test_search_run_after_an_interruption_anywhere_ends_the_same(
    search: Any, tmp_path: Path, place: int, rate: float
) -> None:
    long = {"search.num_phases": 3, "search.fine_tuning_rate": rate}
    asked: list[Request] = []

    def interrupted(request: Request) -> float:
        if len(asked) == place:
            raise KeyboardInterrupt
        asked.append(request)
        return by_digest(request)

    with pytest.raises(KeyboardInterrupt):
        search(long, judge=interrupted)
    resumed = search(long)
    written = (tmp_path / "history.csv").read_bytes()
    assert not {request.digest for request in asked} & {request.digest for request in resumed.executor.asked}
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    undisturbed = search(long)
    assert len(undisturbed.executor.asked) == len(asked) + len(resumed.executor.asked) > place
    assert (tmp_path / "history.csv").read_bytes() == written
    assert undisturbed.result.rows == resumed.result.rows
    assert undisturbed.weights == resumed.weights


def test_search_run_of_other_seeds_differs(search: Any) -> None:
    assert search(seed=0).result.rows != search(seed=1).result.rows


def test_search_run_tells_the_listener_of_each_generation_once_it_is_in_the_history(search: Any) -> None:
    outcome = search()
    listener, rows = outcome.listener, outcome.result.rows
    assert [(event["phase"], event["generation"]) for event in listener.generations] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert sum(event["num_to_train"] for event in listener.generations) == len(outcome.executor.asked)
    assert {event["num_individuals"] for event in listener.generations} == {4}
    assert [row for generation in listener.finished for row in generation] == list(rows)
    assert listener.written == [list(rows[:end]) for end in (4, 8, 12, 16)]
    assert sorted(map(str, (row for row, _, _ in listener.individuals))) == sorted(map(str, rows))
    trained = [seconds for _, seconds, replayed in listener.individuals if not replayed]
    assert trained == [3.0] * len(outcome.executor.asked)


def test_search_run_that_a_budget_ends_says_so(search: Any) -> None:
    whole = search()
    assert whole.listener.messages == []
    assert {event["budget_epochs_left"] for event in whole.listener.generations} == {None}
    (text,) = search({"budget.epochs": whole.result.points[0][0]}, seed=1).listener.messages
    assert text == f"the budget ends the search after {whole.result.points[0][0]} epochs of training"


def test_search_run_whose_budget_is_over_before_a_network_is_trained_says_so(search: Any) -> None:
    with pytest.raises(InputError, match=r"config\.budget\.seconds=1\.0: is over before a network"):
        search({"budget.seconds": 1.0})  # a training is told to take three


def test_search_run_tells_the_listener_what_is_left_of_the_budget(search: Any) -> None:
    outcome = search({"budget.epochs": 1000, "budget.seconds": 1000.0})
    rows, events = outcome.result.rows, outcome.listener.generations
    for event in events:
        place = (event["phase"], event["generation"])
        before = {row.network: row.epochs for row in rows if (row.phase, row.generation) < place}
        assert event["budget_epochs_left"] == 1000 - sum(before.values())
        assert 0 < event["budget_seconds_left"] <= 1000
    assert events[-1]["budget_epochs_left"] < events[0]["budget_epochs_left"] == 1000
