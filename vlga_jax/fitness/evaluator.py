"""Answers requests: from the ledger where it knows, by the executor where not; keeps the weights that may be needed."""

from collections.abc import Collection, Iterator, Sequence

from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluation import Evaluation, Request
from vlga_jax.fitness.executors.local import Ancestor, LocalExecutor
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.network.transfer import Variables
from vlga_jax.training.failure import NOT_COMPILED


class Evaluator:
    """One run's way to fitness values.

    Args:
      ledger: asked first; every new evaluation is committed to it before anything depends on it, but for those that the
        compiler refused.
      weights: of each phase's best, and of those that others may inherit from.
      executor: trains.
    """

    def __init__(self, ledger: Ledger, weights: WeightStore, executor: LocalExecutor):
        self.ledger, self.weights, self.executor = ledger, weights, executor
        # "asked": the last that was asked for; "fittest": the last that was the best, which the next phase inherits
        self._remembered: dict[str, Ancestor] = {}

    def evaluate(
        self, requests: Sequence[Request], *, keep_from: float, keep: Collection[str] = ()
    ) -> Iterator[tuple[Evaluation, bool]]:
        """Yields each different request's evaluation, in their order, and whether the ledger knew it.

        Weights of a new evaluation are durable before its row is if it is among `keep`, or if it was judged after all
        its epochs and its fitness reaches `keep_from` and that of all before it.

        Args:
          requests: equal ones are answered once.
          keep_from: fitness of the phase's best so far.
          keep: digests of those whose weights may be needed however fit they are.
        """
        different = {request.digest: request for request in requests}
        known = {digest: self.ledger.find(request) for digest, request in different.items()}
        whole = [found.fitness for digest, found in known.items() if found and different[digest].train_epochs is None]
        keep_from = max(keep_from, *whole, 0.0)
        missing = [request for digest, request in different.items() if known[digest] is None]
        training = self.executor.run(missing, self.find_ancestor)
        saved: str | None = None
        for digest, request in different.items():
            evaluation = known[digest]
            if evaluation is not None:
                yield evaluation, True
                continue
            trained = next(training)
            evaluation, superseded = trained.evaluation, None
            best = request.train_epochs is None and evaluation.fitness >= keep_from
            if trained.variables is not None and (best or digest in keep):
                self.weights.save(digest, trained.variables)
            if trained.variables is not None and best:
                if evaluation.fitness > keep_from and saved not in keep:
                    superseded = saved
                keep_from, saved = evaluation.fitness, digest
                self._remembered["fittest"] = Ancestor(request, trained.variables)
            if evaluation.status != NOT_COMPILED:  # the next process may have what is missing
                self.ledger.record(request, evaluation)
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
        trained = next(self.executor.run([request], self.find_ancestor, limit_time=False))
        if trained.variables is None:
            raise InputError(f"evaluation {digest[:12]}", trained.evaluation.status, trained.evaluation.reason)
        self.weights.save(digest, trained.variables)
        # Whoever asked may write checkpoints next, and Orbax numbers a process's saves in one place: of two at a time,
        # in two threads, one can wait for the other's number until it gives up, after five minutes.
        self.weights.wait()
        return trained.variables

    def forget(self, digest: str) -> None:
        """Deletes the weights of a request, on disk and in memory."""
        self.weights.drop(digest)
        self._remembered = {role: one for role, one in self._remembered.items() if one.request.digest != digest}

    def find_ancestor(self, request: Request) -> Ancestor | None:
        """Returns what a request inherits from; None if it starts afresh.

        The last one asked for, and the last that was a phase's best, come from memory.
        """
        digest = request.inherited_from
        if digest is None:
            return None
        ancestor = next((one for one in self._remembered.values() if one.request.digest == digest), None)
        if ancestor is None:
            asked = self.ledger.request(digest)
            assert asked is not None, "an inherited network was evaluated before its heirs"
            ancestor = Ancestor(asked, self.variables(digest))
        self._remembered["asked"] = ancestor
        return ancestor
