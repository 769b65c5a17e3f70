"""What tests of the search share: a judge that answers instead of training, and what a search leaves."""

import dataclasses
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlga_jax.fitness.evaluation import Evaluation, Request, failure
from vlga_jax.fitness.executors.local import Ancestor, FindAncestor, LocalExecutor, Trained
from vlga_jax.genome.space import make_search_space
from vlga_jax.network.initialise import initialise
from vlga_jax.run.history import HistoryRow, read_csv
from vlga_jax.run.laboratory import Laboratory, RunConfig
from vlga_jax.run.search import SearchResult
from vlga_jax.run.tracking import NullListener

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
                yield Trained(Evaluation(request.digest, "ok", answer, train_seconds=3.0, wall_seconds=3.0), variables)

    def keep_paused(self, trajectories: Collection[str]) -> None:
        pass


class Watcher(NullListener):
    """Writes down what it is told, and what the history held when a generation was finished."""

    def __init__(self, history: Path) -> None:
        self._history = history
        self.written: list[list[HistoryRow]] = []
        self.generations: list[dict[str, Any]] = []
        self.individuals: list[tuple[HistoryRow, float, bool]] = []
        self.finished: list[list[HistoryRow]] = []
        self.messages: list[str] = []

    def message(self, *, text: str) -> None:
        self.messages.append(text)

    def generation_started(self, **event: Any) -> None:
        self.generations.append(event)

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        self.individuals.append((row, seconds, replayed))

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        self.finished.append(list(rows))
        self.written.append(read_csv(self._history))


def paper_laboratory(
    config: RunConfig,
    image_shape: tuple[int, int, int] = (8, 8, 1),
    num_validation: int = 100,
    num_train: int = 100_000,
) -> Laboratory:
    """Returns a laboratory that makes requests, and has nothing that could answer them."""
    data: Any = types.SimpleNamespace(
        train_images=np.broadcast_to(np.uint8(0), (num_train, *image_shape)),
        train_labels=np.zeros(num_train, np.int32),
        validation_labels=np.empty(num_validation, np.int32),
        class_names=range(10),
        fingerprint="data",
    )
    nowhere: Any = None
    return Laboratory(config, data, data, make_search_space(config.space), "", nowhere, nowhere, nowhere)


def by_digest(request: Request) -> float:
    return int(request.digest[:8], 16) / 2**32


@dataclasses.dataclass
class Outcome:
    result: SearchResult
    executor: JudgingExecutor
    listener: Watcher
    weights: set[str]


def champions(rows: Sequence[HistoryRow]) -> list[HistoryRow]:
    """The first best row of each phase."""
    phases = sorted({row.phase for row in rows})
    return [max((row for row in rows if row.phase == phase), key=lambda row: row.fitness) for phase in phases]
