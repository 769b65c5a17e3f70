"""Answers requests: from the ledger where it knows, by the executor where not; keeps the weights that may be needed."""

from collections.abc import Iterator, Sequence

from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluation import Evaluation, Request
from vlga_jax.fitness.executors.local import Ancestor, LocalExecutor
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.network.transfer import Variables


class Evaluator:
    """One run's way to fitness values.

    Args:
      ledger: asked first; every new evaluation is committed to it before anything depends on it.
      weights: of each phase's best.
      executor: trains.
    """

    def __init__(self, ledger: Ledger, weights: WeightStore, executor: LocalExecutor):
        self.ledger, self.weights, self._executor = ledger, weights, executor
        self._ancestor: Ancestor | None = None

    def evaluate(self, requests: Sequence[Request], *, keep_from: float) -> Iterator[tuple[Evaluation, bool]]:
        """Yields each different request's evaluation and whether the ledger knew it.

        Known ones come first, then new ones in their order. Weights of a new evaluation are durable before its row is
        if its fitness reaches `keep_from` and that of all before it.

        Args:
          requests: of one phase: all inherit from the same request; equal ones are answered once.
          keep_from: fitness of the phase's best so far.
        """
        missing: dict[str, Request] = {}
        for digest, request in {request.digest: request for request in requests}.items():
            known = self.ledger.find(request)
            if known is None:
                missing[digest] = request
            else:
                keep_from = max(keep_from, known.fitness)
                yield known, True
        if not missing:
            return
        ancestor = self._find_ancestor(next(iter(missing.values())).inherited_from)
        saved: str | None = None
        for trained in self._executor.run(list(missing.values()), ancestor):
            evaluation = trained.evaluation
            superseded = None
            if trained.variables is not None and evaluation.fitness >= keep_from:
                self.weights.save(evaluation.digest, trained.variables)
                if evaluation.fitness > keep_from:
                    superseded = saved
                keep_from, saved = evaluation.fitness, evaluation.digest
            self.ledger.record(missing[evaluation.digest], evaluation)
            if superseded is not None:
                self.weights.drop(superseded)
            yield evaluation, False

    def variables(self, digest: str) -> Variables:
        """Returns the weights of an evaluated request; if they are gone, trains again, to the same bits.

        Raises:
          InputError: the request failed, so that there are none.
        """
        request = self.ledger.request(digest)
        if request is None:
            raise KeyError(digest)
        if self.weights.has(digest):
            return self.weights.load(digest, request.network)
        ancestor = self._find_ancestor(request.inherited_from)
        trained = next(self._executor.run([request], ancestor, limit_time=False))
        if trained.variables is None:
            raise InputError(f"evaluation {digest[:12]}", trained.evaluation.status, trained.evaluation.reason)
        self.weights.save(digest, trained.variables)
        return trained.variables

    def _find_ancestor(self, digest: str | None) -> Ancestor | None:
        if digest is None:
            return None
        if self._ancestor is None or self._ancestor.request.digest != digest:
            request = self.ledger.request(digest)
            assert request is not None, "an inherited network was evaluated before its heirs"
            self._ancestor = Ancestor(request, self.variables(digest))
        return self._ancestor
