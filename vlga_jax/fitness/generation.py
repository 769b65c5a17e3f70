"""Evaluates a generation: judges its networks at each stage, lets some stop, and keeps within a budget.

Everything is decided in the order of the requests and from what the ledger records, so a search that is replayed
decides the same.
"""

import dataclasses
import math
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

from vlga_jax.checks import knob
from vlga_jax.fitness.evaluation import Evaluation, Request
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.status import OK, STOPPED
from vlga_jax.fitness.stopping import StoppingConfig, standing

_MOST_IDLE_GENERATIONS = 100


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
    """When a search ends, whatever its strategy still wants; 0 is no limit.

    A search with a limit also ends after 100 generations in a row in which nothing was trained: networks that are known
    or rejected would never use up a budget.

    Attributes:
      epochs: that networks begin, over all different ones of the search: the epoch in which one fails counts, those it
        does not come to do not, and one that is rejected counts nothing. One whose weights were deleted, and which is
        trained again because an heir needs them after all, counts again; a search ends before it begins what it cannot
        afford, though something cheaper may come later.
      seconds: that evaluations took, one after the other; a network that is not evaluated by then does not count. The
        results then depend on the machine, and are replayed from the ledger.
    """

    epochs: int = knob(at_least=0)
    seconds: float = knob(at_least=0)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a network.

    Attributes:
      request: judged when it stopped, or at its end.
      evaluation: of that request.
      earlier: of the same training, at the stages before.
      status: ok, stopped, or why it failed.
      standing: what a strategy is told; NaN if it failed.
      known: whether the ledger knew all of it.
      seconds: of training here, all stages.
    """

    request: Request
    evaluation: Evaluation
    earlier: tuple[Evaluation, ...]
    status: str
    standing: float
    known: bool
    seconds: float


class Generations:
    """The networks of one search, evaluated a generation at a time.

    Args:
      evaluator: answers requests.
      stopping: who stops early.
      budget: when everyone does.
      epochs: of a whole training.

    Attributes:
      budget: as given.
      epochs: begun so far, by all networks.
      epochs_saved: not trained so far because networks stopped early; not because the budget ended.
      points: after each evaluation: epochs and seconds so far, and the network's fitness; NaN unless it was trained to
        its end.
    """

    def __init__(self, evaluator: Evaluator, stopping: StoppingConfig, budget: BudgetConfig, epochs: int):
        self._evaluator, self._stopping, self.budget = evaluator, stopping, budget
        self._stages = stopping.stages(epochs)
        self._outcomes: dict[str, Outcome] = {}  # by trajectory
        self._curves: dict[str, dict[int, float]] = {}  # likewise: epoch to accuracy
        self._before: tuple[int, list[str]] = (-1, [])  # the last generation's phase and trajectories
        self._deleted: set[str] = set()  # digests whose weights are gone
        self._cut = False  # whether the budget left out a network
        self._num_idle = 0  # generations in a row that trained nothing
        self._seconds = 0.0
        self.epochs = 0
        self.epochs_saved = 0
        self.points: list[tuple[int, float, float]] = []

    @property
    def exhausted(self) -> bool:
        """Whether the budget allows no other network, or nobody uses it."""
        limited = self.budget.epochs > 0 or self.budget.seconds > 0
        idle = limited and self._num_idle >= _MOST_IDLE_GENERATIONS
        return idle or self._cut or not self._affords(self._stages[0])

    @property
    def epochs_left(self) -> int | None:
        """Of the budget; None if it has no limit."""
        return max(0, self.budget.epochs - self.epochs) if self.budget.epochs else None

    @property
    def seconds_left(self) -> float | None:
        """Likewise."""
        return max(0.0, self.budget.seconds - self._seconds) if self.budget.seconds else None

    def num_unknown(self, requests: Sequence[Request]) -> int:
        """Returns how many different networks are new to this search, and not even begun in the ledger."""
        new = {request.trajectory: request for request in requests if request.trajectory not in self._outcomes}
        begun = [self._evaluator.ledger.find(request.until(self._stages[0])) for request in new.values()]
        return begun.count(None)

    def evaluate(
        self, requests: Sequence[Request], *, phase: int, keep_from: float, keep: Collection[str] = ()
    ) -> Iterator[Outcome]:
        """Yields the outcome of each different network as soon as it stands; of none that the budget does not reach.

        Args:
          requests: of whole trainings, in the order of their individuals; equal ones have one outcome.
          phase: the phase's number; networks are compared with the generation before of the same phase only.
          keep_from: fitness of the phase's best so far, for weights; see `Evaluator.evaluate`.
          keep: trajectories whose weights may be needed however fit they are.
        """
        different = {request.trajectory: request for request in requests}
        for trajectory in different:
            if trajectory in self._outcomes:
                yield self._outcomes[trajectory]
        alive = {name: request for name, request in different.items() if name not in self._outcomes}
        epochs_before = self.epochs
        records: dict[str, list[tuple[Evaluation, bool]]] = {name: [] for name in alive}
        trained = 0
        for place, epoch in enumerate(self._stages):
            reached: dict[str, float] = {}
            for name, evaluation, known in self._stage(alive, epoch, trained, keep_from, keep):
                records[name].append((evaluation, known))
                if trained and name in keep:  # what it is judged by now takes the place of these weights
                    self._evaluator.weights.drop(alive[name].until(trained).digest)
                if evaluation.status == OK:
                    reached[name] = evaluation.fitness
                if evaluation.status != OK or epoch == self._stages[-1]:
                    yield self._settle(name, alive[name].until(epoch), records[name], len(self._stages) - 1 - place)
            trained = epoch
            alive = yield from self._judge(alive, reached, place, records, phase)
        self._evaluator.executor.keep_paused(())
        self._before = (phase, list(different))
        self._num_idle = self._num_idle + 1 if self.epochs == epochs_before else 0

    def keep_no_weights(self, digests: Collection[str]) -> None:
        """Deletes the weights of these networks, unless it did before and nobody needed them since.

        The others' stay, and so do those of networks that a replay has not met yet.
        """
        for digest in set(digests) - self._deleted:
            self._evaluator.forget(digest)
        self._deleted.update(digests)

    def _begin(self, waiting: Mapping[str, Request], num_epochs: int) -> dict[str, Request]:
        """The first of these networks, as many as may train so long; counts the ancestors that train again for them."""
        begun: dict[str, Request] = {}
        planned = 0
        for name, request in waiting.items():
            again = self._to_train_again(request)
            num_again = sum(ancestor.num_epochs for ancestor in again)
            planned += 0 if request.rejection() else num_epochs
            if not self._affords(num_again + planned):
                break
            self.epochs += num_again
            self._deleted.difference_update(ancestor.digest for ancestor in again)
            begun[name] = request
        return begun

    def _to_train_again(self, heir: Request) -> list[Request]:
        """The networks of an heir's line, up to the first whose weights are there; none if the heir is rejected."""
        line, digest = [], None if heir.rejection() else heir.inherited_from
        while digest is not None and digest in self._deleted:
            ancestor = self._evaluator.ledger.request(digest)
            assert ancestor is not None, "it was evaluated before its heirs"
            line.append(ancestor)
            digest = ancestor.inherited_from
        return line

    def _stage(
        self, alive: Mapping[str, Request], epoch: int, trained: int, keep_from: float, keep: Collection[str]
    ) -> Iterator[tuple[str, Evaluation, bool]]:
        """Trains everyone to an epoch, until the budget ends."""
        self._evaluator.executor.keep_paused(alive)
        waiting = dict(alive)
        while begun := self._begin(waiting, epoch - trained):  # again where failures left epochs over
            waiting = {name: request for name, request in waiting.items() if name not in begun}
            names = {request.until(epoch).digest: name for name, request in begun.items()}
            kept = {digest for digest, name in names.items() if name in keep}
            asked = [request.until(epoch) for request in begun.values()]
            for evaluation, known in self._evaluator.evaluate(asked, keep_from=keep_from, keep=kept):
                name = names[evaluation.digest]
                self._seconds += evaluation.wall_seconds
                if self.budget.seconds and self._seconds > self.budget.seconds:
                    return
                if begun[name].rejection() is None:
                    self.epochs += _num_begun(evaluation, trained, epoch)
                if evaluation.status == OK:  # a failed one has no accuracy that others could fall below
                    self._curves.setdefault(name, {})[epoch] = evaluation.fitness
                whole = evaluation.status == OK and epoch == self._stages[-1]
                self.points.append((self.epochs, self._seconds, evaluation.fitness if whole else math.nan))
                yield name, evaluation, known
        self._cut = self._cut or bool(waiting)

    def _judge(
        self,
        alive: Mapping[str, Request],
        reached: Mapping[str, float],
        place: int,
        records: Mapping[str, list[tuple[Evaluation, bool]]],
        phase: int,
    ) -> Generator[Outcome, None, dict[str, Request]]:
        """Settles those who stop at a stage, or whom the budget did not let reach it; returns those who go on."""
        stages = self._stages
        going: list[str] = []
        if place + 1 < len(stages):
            going = self._stopping.goes_on(stages[place], reached, self._reference(phase, stages[place]))
            self.epochs_saved += (len(reached) - len(going)) * (stages[-1] - stages[place])
            more = stages[place + 1] - stages[place]
            going = [name for count, name in enumerate(going, 1) if self._affords(count * more)]
        for name, request in alive.items():
            if name in going or name in self._outcomes or not records[name]:
                continue
            last = place if name in reached else place - 1
            yield self._settle(name, request.until(stages[last]), records[name], len(stages) - 1 - last)
        return {name: request for name, request in alive.items() if name in going}

    def _settle(
        self, name: str, request: Request, records: Sequence[tuple[Evaluation, bool]], stages_missed: int
    ) -> Outcome:
        *earlier, evaluation = (evaluation for evaluation, _ in records)
        status = STOPPED if evaluation.status == OK and stages_missed else evaluation.status
        self._outcomes[name] = Outcome(
            request=request,
            evaluation=evaluation,
            earlier=tuple(earlier),
            status=status,
            standing=standing(evaluation.fitness, stages_missed) if evaluation.status == OK else math.nan,
            known=all(known for _, known in records),
            seconds=sum(evaluation.train_seconds for evaluation, known in records if not known),
        )
        return self._outcomes[name]

    def _reference(self, phase: int, epoch: int) -> list[float]:
        before, names = self._before
        curves = [self._curves.get(name, {}) for name in names] if before == phase else []
        return [curve[epoch] for curve in curves if epoch in curve]

    def _affords(self, num_epochs: int) -> bool:
        """Whether the budget allows so many epochs more."""
        if self.budget.seconds and self._seconds >= self.budget.seconds:
            return False
        return self.budget.epochs == 0 or self.epochs + num_epochs <= self.budget.epochs


def _num_begun(evaluation: Evaluation, before: int, until: int) -> int:
    """How many epochs a training began of those after `before`; one at least."""
    if evaluation.status == OK:
        return until - before
    return min(max(len(evaluation.losses), before) + 1, until) - before
