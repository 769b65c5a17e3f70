"""The loop with real stores and a real strategy; what a network is worth comes from its digest, without training."""

import contextlib
import dataclasses
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from vlga_jax.checks import InputError
from vlga_jax.evolution.vlga import VLGA
from vlga_jax.fitness.evaluation import Evaluation, Request, failure
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.executors.local import Ancestor, FindAncestor, LocalExecutor, Trained
from vlga_jax.fitness.generation import Generations
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.genome.chromosome import from_values
from vlga_jax.genome.space import make_search_space
from vlga_jax.network.initialise import initialise
from vlga_jax.run.history import HistoryRow, read_csv
from vlga_jax.run.laboratory import Laboratory
from vlga_jax.run.search import Search, SearchResult
from vlga_jax.run.tracking import NullListener

pytestmark = pytest.mark.usefixtures("cache_home")
Judge = Callable[[Request], float | str]


class JudgingExecutor(LocalExecutor):
    """Asks a judge for a fitness, or a failure's status, instead of training; remembers what it was asked."""

    def __init__(self, judge: Judge):
        self.judge = judge
        self.asked: list[Request] = []
        self.ancestors: list[Ancestor | None] = []

    def run(
        self, requests: Sequence[Request], find_ancestor: FindAncestor, *, limit_time: bool = True
    ) -> Iterator[Trained]:
        for request in requests:
            self.asked.append(request)
            self.ancestors.append(find_ancestor(request))
            answer = self.judge(request)
            if isinstance(answer, str):
                yield Trained(failure(request, answer, f"was {answer}"), None)
            else:
                variables = initialise(jax.random.key(len(request.network.blocks)), request.network)
                yield Trained(Evaluation(request.digest, "ok", answer, train_seconds=3.0), variables)

    def keep_paused(self, trajectories: Collection[str]) -> None:
        pass


class Watcher(NullListener):
    """Writes down what it is told, and what the history held when a generation was finished."""

    def __init__(self, history: Path) -> None:
        self._history = history
        self.written: list[list[HistoryRow]] = []
        self.generations: list[dict[str, int]] = []
        self.individuals: list[tuple[HistoryRow, float, bool]] = []
        self.finished: list[list[HistoryRow]] = []
        self.messages: list[str] = []

    def message(self, *, text: str) -> None:
        self.messages.append(text)

    def generation_started(self, **event: int) -> None:
        self.generations.append(event)

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        self.individuals.append((row, seconds, replayed))

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        self.finished.append(list(rows))
        self.written.append(read_csv(self._history))


def by_digest(request: Request) -> float:
    return int(request.digest[:8], 16) / 2**32


@dataclasses.dataclass
class Outcome:
    result: SearchResult
    executor: JudgingExecutor
    listener: Watcher
    weights: set[str]


@pytest.fixture
def search(tmp_path: Path, make_config: Any) -> Callable[..., Outcome]:
    """Runs a whole search in one directory: changes of the configuration, and a judge."""

    def run(changes: dict[str, Any] | None = None, judge: Judge = by_digest, seed: int = 0) -> Outcome:
        config = make_config(changes)
        space = make_search_space(config.space)

        data: Any = types.SimpleNamespace(
            train_images=np.empty((0, 8, 8, 1), np.uint8), class_names=range(10), fingerprint="data"
        )
        nowhere: Any = None  # requests need no more of a laboratory than these
        lab = Laboratory(dataclasses.replace(config, seed=seed), data, nowhere, space, "", nowhere, nowhere, nowhere)

        executor, listener = JudgingExecutor(judge), Watcher(tmp_path / "history.csv")
        with (
            contextlib.closing(Ledger(tmp_path / "ledger.sqlite", "here")) as ledger,
            contextlib.closing(WeightStore(tmp_path / "weights")) as weights,
        ):
            strategy = VLGA(space, config.search)
            evaluator = Evaluator(ledger, weights, executor)
            generations = Generations(evaluator, config.stopping, config.budget, config.fitness.epochs)
            search = Search(strategy, space, lab.request, generations, weights, listener, tmp_path / "history.csv")
            result = search.run(seed)
            assert {row.network: row.fitness for row in result.rows} == {
                digest: evaluation.fitness for digest, evaluation in result.evaluations.items()
            }
        kept = {path.name for path in (tmp_path / "weights").iterdir()}
        return Outcome(result, executor, listener, kept)

    return run


def champions(rows: Sequence[HistoryRow]) -> list[HistoryRow]:
    """The first best row of each phase."""
    phases = sorted({row.phase for row in rows})
    return [max((row for row in rows if row.phase == phase), key=lambda row: row.fitness) for phase in phases]


def test_search_run_of_three_phases_has_a_row_for_each_individual(search: Any, tmp_path: Path) -> None:
    outcome = search({"search.num_phases": 3, "search.num_generations": 3})
    rows = outcome.result.rows
    places = [(row.phase, row.generation, row.individual) for row in rows]
    assert places == [(phase, generation, one) for phase in range(3) for generation in range(3) for one in range(4)]
    assert read_csv(tmp_path / "history.csv") == list(rows)
    assert all(len(row.chromosome) == row.phase + 1 for row in rows)
    assert outcome.result.best_fitness == max(row.fitness for row in rows)
    assert outcome.result.trained == set(outcome.result.evaluations)


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
    (text,) = search({"budget.epochs": whole.result.points[0][0]}, seed=1).listener.messages
    assert text == f"the budget ends the search after {whole.result.points[0][0]} epochs of training"
