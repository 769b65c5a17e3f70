"""An evaluator whose executor answers from a table, and what it was told to do."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from vlga_jax.fitness.evaluation import Evaluation, Request, failure
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.executors.local import Ancestor, FindAncestor, LocalExecutor, Trained
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.network.initialise import initialise


class TableExecutor(LocalExecutor):
    """Answers with the fitness, or the failure, that a table holds for a request's seed; remembers what was asked."""

    def __init__(self, answers: dict[int, float | str | Exception]):
        self.answers = answers
        self.asked: list[int] = []
        self.ancestors: list[Ancestor | None] = []
        self.limited: list[bool] = []

    def run(
        self, requests: Sequence[Request], find_ancestor: FindAncestor, *, limit_time: bool = True
    ) -> Iterator[Trained]:
        for request in requests:
            ancestor = find_ancestor(request)
            self.asked.append(request.seed)
            self.ancestors.append(ancestor)
            self.limited.append(limit_time)
            answer = self.answers[request.seed]
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, str):
                yield Trained(failure(request, answer, f"was {answer}"), None)
            else:
                evaluation = Evaluation(request.digest, "ok", answer, losses=(float(request.seed),))
                yield Trained(evaluation, initialise(jax.random.key(request.seed), request.network))


@dataclasses.dataclass
class Bench:
    """An evaluator with its parts, and the log of what they were told to do, in order."""

    evaluator: Evaluator
    ledger: Ledger
    weights: WeightStore
    executor: Any
    log: list[tuple[str, str]]

    def evaluate(self, requests: Sequence[Request], keep_from: float = 0.0) -> list[tuple[Evaluation, bool]]:
        found = list(self.evaluator.evaluate(requests, keep_from=keep_from))
        self.weights.wait()  # other stores look, too
        return found

    def kept(self, requests: Sequence[Request]) -> list[int]:
        return [request.seed for request in requests if self.weights.has(request.digest)]
