"""The loop: ask, decode, evaluate, tell. A run always starts from its seed and asks the ledger first, so resuming is
replaying: there is no second code path."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from vlga_jax.checks import InputError
from vlga_jax.evolution.strategy import Champion, Place, Proposal, Strategy
from vlga_jax.fitness.evaluation import OK, Evaluation, Request
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.genome.chromosome import Chromosome, to_values
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.run.history import HistoryRow, to_csv, write_atomically
from vlga_jax.run.tracking import Listener


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
      rows: the history.
      winner: the individual to train to convergence.
      request: the request that gave the winner's fitness.
      requests, evaluations: of every different network asked for, by digest.
      trained: digests that this process trained, rather than knew.
    """

    rows: tuple[HistoryRow, ...]
    winner: Champion
    request: Request
    requests: dict[str, Request]
    evaluations: dict[str, Evaluation]
    trained: frozenset[str]

    @property
    def best_fitness(self) -> float:
        return max(row.fitness for row in self.rows)


class Search:
    """A search in progress.

    Args:
      strategy: proposes individuals.
      space: their genes.
      make_request: what to ask of a chromosome: (chromosome, blocks inherited, digest inherited from) -> request.
      evaluator: answers.
      listener: is told.
      history_path: where the history goes after every generation.
    """

    def __init__(
        self,
        strategy: Strategy[Any],
        space: SearchSpace,
        make_request: Callable[[Chromosome, int, str | None], Request],
        evaluator: Evaluator,
        listener: Listener,
        history_path: Path,
    ):
        self._strategy, self._space, self._make_request = strategy, space, make_request
        self._evaluator, self._listener, self._history_path = evaluator, listener, history_path
        self._requests: dict[Place, Request] = {}
        self._evaluations: dict[str, Evaluation] = {}
        self._trained: set[str] = set()
        self._rows: list[HistoryRow] = []

    def run(self, seed: int) -> SearchResult:
        """Returns the result of the whole search.

        Args:
          seed: the run's, in [0, 2**32).

        Raises:
          InputError: every network of the first phase failed.
        """
        key = stream(jax.random.key(seed), "evolution")
        state = self._strategy.init(key)
        while not self._strategy.done(state):
            proposals = self._strategy.ask(state)
            requests = [self._request(proposal) for proposal in proposals]
            rows = self._evaluate(proposals, requests, self._best_of_phase(state, proposals[0].place.phase))
            told = [row.fitness if row.status == OK else math.nan for row in rows]
            state = self._strategy.tell(key, state, told)
            self._rows.extend(rows)
            self._write_history(done=self._strategy.done(state))
            self._listener.generation_finished(rows=rows)
        self._require_some_success()
        champions = self._strategy.champions(state)
        winner = self._strategy.winner(state)
        request = self._requests[winner.place]
        self._evaluator.weights.keep_only(self._requests[champion.place].digest for champion in champions)
        asked = {request.digest: request for request in self._requests.values()}
        return SearchResult(tuple(self._rows), winner, request, asked, self._evaluations, frozenset(self._trained))

    def _request(self, proposal: Proposal) -> Request:
        ancestor = self._requests[proposal.inherits] if proposal.inherits is not None else None
        request = self._make_request(
            proposal.chromosome,
            len(ancestor.network.blocks) if ancestor else 0,
            ancestor.digest if ancestor else None,
        )
        self._requests[proposal.place] = request
        return request

    def _best_of_phase(self, state: Any, phase: int) -> float:
        champions = self._strategy.champions(state)
        return max((champion.fitness for champion in champions if champion.place.phase == phase), default=0.0)

    def _evaluate(
        self, proposals: Sequence[Proposal], requests: Sequence[Request], keep_from: float
    ) -> list[HistoryRow]:
        """The generation's rows; tells the listener of each individual as soon as its network is evaluated."""
        place = proposals[0].place
        waiting: dict[str, list[Proposal]] = {}
        for proposal, request in zip(proposals, requests, strict=True):
            waiting.setdefault(request.digest, []).append(proposal)
        unknown = {request.digest for request in requests if self._evaluator.ledger.find(request) is None}
        self._listener.generation_started(
            phase=place.phase,
            generation=place.generation,
            num_to_train=len(unknown),
            num_individuals=len(proposals),
        )
        rows: dict[int, HistoryRow] = {}
        for evaluation, known in self._evaluator.evaluate(requests, keep_from=keep_from):
            self._evaluations[evaluation.digest] = evaluation
            if not known:
                self._trained.add(evaluation.digest)
            for twin, proposal in enumerate(waiting[evaluation.digest]):
                row = self._row(proposal, evaluation)
                rows[proposal.place.individual] = row
                replayed = known or twin > 0
                seconds = 0.0 if replayed else evaluation.train_seconds
                self._listener.individual_finished(row=row, seconds=seconds, replayed=replayed)
        return [rows[individual] for individual in range(len(proposals))]

    def _row(self, proposal: Proposal, evaluation: Evaluation) -> HistoryRow:
        return HistoryRow(
            **proposal.place._asdict(),
            origin=proposal.origin,
            parent_a=proposal.parent_a,
            parent_b=proposal.parent_b,
            chromosome=list(to_values(self._space, proposal.chromosome)),
            network=evaluation.digest,
            fitness=evaluation.fitness,
            status=evaluation.status,
        )

    def _write_history(self, *, done: bool) -> None:
        """Writes the rows so far; while a finished search is replayed, what is there already stays whole."""
        text = to_csv(self._rows)
        there = self._history_path.read_text() if self._history_path.is_file() else ""
        if there != text and (done or not there.startswith(text)):
            write_atomically(self._history_path, text)

    def _require_some_success(self) -> None:
        phase = self._rows[-1].phase
        failed = [row for row in self._rows if row.phase == phase and row.status != OK]
        if len(failed) < sum(row.phase == phase for row in self._rows):
            return
        reasons = "; ".join(sorted({self._evaluations[row.network].reason for row in failed})[:3])
        if phase == 0:
            raise InputError("search", "phase 1", f"no network could be trained: {reasons}")
        self._listener.message(text=f"the search ends: no network of phase {phase + 1} could be trained: {reasons}")
