"""The loop: ask, decode, evaluate, tell. A run always starts from its seed and asks the ledger first, so resuming is
replaying: there is no second code path."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from vlga_jax.checks import InputError
from vlga_jax.evolution.strategy import Champion, Place, Proposal, Strategy
from vlga_jax.fitness.evaluation import Evaluation, Request
from vlga_jax.fitness.generation import Generations, Outcome
from vlga_jax.fitness.status import OK
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.run.history import HistoryRow, to_csv, write_atomically
from vlga_jax.run.tracking import Listener


class NothingTrained(InputError):
    """No network of the first phase could be trained: the remedy tells the reasons, `status` is the most frequent."""

    def __init__(self, status: str, reasons: str):
        self.status = status
        super().__init__("search", "phase 1", f"no network could be trained: {reasons}")


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      rows: the history.
      winner: the individual to train to convergence.
      request: the request that gave the winner's fitness.
      requests, evaluations: of every different network asked for, by digest.
      trained: digests that this process trained, rather than knew.
      train_seconds, compile_seconds: of all these networks at all their stages, whoever trained them.
      points, epochs_saved: see `Generations`.
    """

    rows: tuple[HistoryRow, ...]
    winner: Champion
    request: Request
    requests: dict[str, Request]
    evaluations: dict[str, Evaluation]
    trained: frozenset[str]
    train_seconds: float
    compile_seconds: float
    points: tuple[tuple[int, float, float], ...]
    epochs_saved: int

    @property
    def best_fitness(self) -> float:
        """Of all networks that were trained to their end; of those that stopped, if none was."""
        whole = [row.fitness for row in self.rows if row.status == OK]
        return max(whole or [row.fitness for row in self.rows])


class Search:
    """A search in progress.

    Args:
      strategy: proposes individuals.
      space: their genes.
      make_request: what to ask of a proposal, given the request that it inherits from, if any.
      generations: evaluates.
      weights: that are kept as long as the strategy may need them.
      listener: is told.
      history_path: where the history goes after every generation.
    """

    def __init__(
        self,
        strategy: Strategy[Any],
        space: SearchSpace,
        make_request: Callable[[Proposal, Request | None], Request],
        generations: Generations,
        weights: WeightStore,
        listener: Listener,
        history_path: Path,
    ):
        self._strategy, self._space, self._make_request = strategy, space, make_request
        self._generations, self._weights = generations, weights
        self._listener, self._history_path = listener, history_path
        self._outcomes: dict[Place, Outcome] = {}
        self._seen: set[str] = set()  # trajectories
        self._trained: set[str] = set()
        self._rows: list[HistoryRow] = []

    def run(self, seed: int) -> SearchResult:
        """Returns the result of the whole search: to its strategy's end, or to that of the budget.

        Args:
          seed: the run's, in [0, 2**32).

        Raises:
          NothingTrained: every network of the first phase failed.
          InputError: the budget is too small for one network.
        """
        key = stream(jax.random.key(seed), "evolution")
        state = self._strategy.init(key)
        while not self._strategy.done(state) and not self._generations.exhausted:
            proposals = self._strategy.ask(state)
            rows = self._evaluate(proposals, self._best_of_phase(state, proposals[0].place.phase))
            outcomes = [self._outcomes.get(proposal.place) for proposal in proposals]
            told = [math.nan if outcome is None else outcome.standing for outcome in outcomes]
            state = self._strategy.tell(key, state, told)
            self._rows.extend(rows)
            self._generations.keep_no_weights(self._digests() - self._needed(state))
            self._write_history(done=self._strategy.done(state) or self._generations.exhausted)
            self._listener.generation_finished(rows=rows)
        self._require_some_success()
        if not self._strategy.done(state):
            self._listener.message(
                text=f"the budget ends the search after {self._generations.epochs} epochs of training"
            )
        self._weights.keep_only(self._needed(state))
        winner = self._strategy.winner(state)
        outcome = self._outcomes[winner.place]
        every = {each.request.digest: each for each in self._outcomes.values()}
        stages = [stage for each in every.values() for stage in (*each.earlier, each.evaluation)]
        return SearchResult(
            rows=tuple(self._rows),
            winner=dataclasses.replace(winner, fitness=outcome.evaluation.fitness),
            request=outcome.request,
            requests={digest: each.request for digest, each in every.items()},
            evaluations={digest: each.evaluation for digest, each in every.items()},
            trained=frozenset(self._trained),
            train_seconds=sum(stage.train_seconds for stage in stages),
            compile_seconds=sum(stage.compile_seconds for stage in stages),
            points=tuple(self._generations.points),
            epochs_saved=self._generations.epochs_saved,
        )

    def _request(self, proposal: Proposal) -> Request:
        ancestor = self._outcomes[proposal.inherits] if proposal.inherits is not None else None
        if ancestor is not None and math.isnan(ancestor.standing):
            return self._make_request(dataclasses.replace(proposal, sources=None), None)  # it left no weights
        return self._make_request(proposal, ancestor.request if ancestor is not None else None)

    def _digests(self) -> set[str]:
        return {outcome.request.digest for outcome in self._outcomes.values()}

    def _needed(self, state: Any) -> set[str]:
        """The networks whose weights the strategy may still ask for."""
        places = [champion.place for champion in self._strategy.champions(state)]
        places += self._strategy.parents(state)
        return {self._outcomes[place].request.digest for place in places if place in self._outcomes}

    def _best_of_phase(self, state: Any, phase: int) -> float:
        champions = self._strategy.champions(state)
        return max((champion.fitness for champion in champions if champion.place.phase == phase), default=0.0)

    def _evaluate(self, proposals: Sequence[Proposal], keep_from: float) -> list[HistoryRow]:
        """The generation's rows; tells the listener of each individual as soon as its network is evaluated.

        Individuals that the budget does not reach have none.
        """
        place = proposals[0].place
        requests = [self._request(proposal) for proposal in proposals]
        waiting: dict[str, list[Proposal]] = {}
        for proposal, request in zip(proposals, requests, strict=True):
            waiting.setdefault(request.trajectory, []).append(proposal)
        self._listener.generation_started(
            phase=place.phase,
            generation=place.generation,
            num_to_train=self._generations.num_unknown(requests),
            num_individuals=len(proposals),
            budget_epochs_left=self._generations.epochs_left,
            budget_seconds_left=self._generations.seconds_left,
        )
        keep = {name for name, twins in waiting.items() if any(twin.may_be_parent for twin in twins)}
        rows: dict[int, HistoryRow] = {}
        for outcome in self._generations.evaluate(requests, phase=place.phase, keep_from=keep_from, keep=keep):
            trajectory = outcome.request.trajectory
            if not outcome.known:
                self._trained.add(outcome.request.digest)
            for twin, proposal in enumerate(waiting[trajectory]):
                self._outcomes[proposal.place] = outcome
                row = self._row(proposal, outcome)
                rows[proposal.place.individual] = row
                replayed = outcome.known or trajectory in self._seen or twin > 0
                self._listener.individual_finished(
                    row=row, seconds=0.0 if replayed else outcome.seconds, replayed=replayed
                )
            self._seen.add(trajectory)
        return [rows[individual] for individual in sorted(rows)]

    def _row(self, proposal: Proposal, outcome: Outcome) -> HistoryRow:
        return HistoryRow(
            **proposal.place._asdict(),
            origin=proposal.origin,
            parent_a=proposal.parent_a,
            parent_b=proposal.parent_b,
            chromosome=list(to_values(self._space, proposal.chromosome)),
            learning_rate=outcome.request.recipe.learning_rate,
            network=outcome.request.digest,
            epochs=outcome.request.num_epochs,
            fitness=outcome.evaluation.fitness,
            status=outcome.status,
        )

    def _write_history(self, *, done: bool) -> None:
        """Writes the rows so far; while a finished search is replayed, what is there already stays whole."""
        text = to_csv(self._rows)
        there = self._history_path.read_text() if self._history_path.is_file() else ""
        if there != text and (done or not there.startswith(text)):
            write_atomically(self._history_path, text)

    def _require_some_success(self) -> None:
        if not self._rows:
            remedy = "is over before a network is trained; give more, or a budget in epochs, with another --workdir"
            raise InputError("config.budget.seconds", self._generations.budget.seconds, remedy)
        phase = self._rows[-1].phase
        members = [(place, outcome) for place, outcome in self._outcomes.items() if place.phase == phase]
        failed = [outcome for _, outcome in members if math.isnan(outcome.standing)]
        if len(failed) < len(members):
            return
        reasons = "; ".join(sorted({outcome.evaluation.reason for outcome in failed})[:3])
        if phase == 0:
            raise NothingTrained(statistics.mode(outcome.status for outcome in failed), reasons)
        self._listener.message(text=f"the search ends: no network of phase {phase + 1} could be trained: {reasons}")
