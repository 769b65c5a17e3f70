"""Where a run stands, and how long it may still take, as its events tell.

People count phases, generations, individuals and epochs from 1.
"""

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlga_jax.fitness.status import OK
from vlga_jax.run.history import HistoryRow
from vlga_jax.run.tracking import scores

_PACE_WINDOW = 30  # trainings that the pace averages over; later phases cost more, so old ones say little


class RunView:
    """Where a run stands, as its events tell.

    The time left is the number of trainings to come times the time between recent ones, so parallel training is
    accounted for, and what was replayed from the ledger counts as free. Where the budget will end the search before
    that, it is the time until then, an epoch taking as long as recent ones; what a resumed generation had trained
    before counts from the next generation on.

    Attributes:
      phase, generation: the current ones, from 0.
      num_phases: 0 if a stop rule decides.
      num_generations: of a phase; 0 if a budget decides, as where it can end the only phase.
      budget: what the search may spend in all, in words; nothing where it has no budget.
      num_individuals: of the current generation; `num_finished` of them have their fitness.
      num_replayed: of the current generation, new individuals whose fitness came from the ledger.
      best: the first individual with the highest fitness so far, if any.
      num_trained: networks trained by this process.
      num_failed: individuals without a fitness so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._started = self._last_event = clock()
        # seconds and epochs of each training
        self._paces: collections.deque[tuple[float, int]] = collections.deque(maxlen=_PACE_WINDOW)
        # Of the budget, as the generation began; None is no limit.
        self._budget_epochs_left: int | None = None
        self._budget_seconds_left: float | None = None
        self._num_epochs_here = 0  # since then, as far as individuals have finished
        self._generation_started = self._started
        self._num_new: list[int] = []  # not survivors, for each generation after the first of a phase
        self._num_to_train = self._num_trained_here = 0
        self.num_replayed = 0
        self.num_phases = self.num_generations = self.population_size = 0
        self._most_generations = 0  # of a phase, whoever ends it
        self.budget = ""
        self.phase = self.generation = self.num_individuals = self.num_finished = 0
        self.num_trained = self.num_failed = 0
        self.best: HistoryRow | None = None
        self.workdir = Path()

    def run_started(
        self,
        *,
        workdir: Path,
        config: Mapping[str, Any],
        num_phases: int,
        num_generations: int,
        population_size: int,
    ) -> None:
        self.workdir = workdir
        self.budget = _budget_text(config.get("budget", {}))
        self.num_phases, self.population_size, self._most_generations = num_phases, population_size, num_generations
        limits = config.get("budget", {})
        most_epochs = num_generations * population_size * config.get("fitness", {}).get("epochs", 1)
        binds = limits.get("seconds") or 0 < limits.get("epochs", 0) < most_epochs
        self.num_generations = 0 if binds and num_phases == 1 else num_generations
        self._started = self._last_event = self._clock()

    def generation_started(
        self,
        *,
        phase: int,
        generation: int,
        num_to_train: int,
        num_individuals: int,
        budget_epochs_left: int | None = None,
        budget_seconds_left: float | None = None,
    ) -> None:
        self.phase, self.generation, self.num_individuals = phase, generation, num_individuals
        self._num_to_train = num_to_train
        self._num_trained_here = self._num_epochs_here = self.num_finished = self.num_replayed = 0
        self._budget_epochs_left, self._budget_seconds_left = budget_epochs_left, budget_seconds_left
        self._generation_started = self._last_event = self._clock()

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        now = self._clock()
        if not replayed and seconds > 0:
            self._paces.append((now - self._last_event, row.epochs))
            self.num_trained += 1
            self._num_trained_here += 1
            self._num_epochs_here += row.epochs
        self.num_replayed += replayed and row.origin != "survivor"
        self._last_event = now
        self.num_finished += 1
        self._score(row)

    def generation_finished(self, rows: Sequence[HistoryRow]) -> None:
        self.num_finished = self.num_individuals
        self.num_failed += scores(rows).num_failed
        for row in rows:  # also those, such as survivors, that were never told of one by one
            self._score(row)
        if self.generation > 0:
            self._num_new.append(sum(row.origin != "survivor" for row in rows))
        self._last_event = self._clock()

    def _score(self, row: HistoryRow) -> None:
        if row.status == OK and (self.best is None or row.fitness > self.best.fitness):
            self.best = row

    def elapsed_seconds(self) -> float:
        """Returns the time since the run, or this part of it, began."""
        return self._clock() - self._started

    def seconds_left(self) -> float | None:
        """Returns the estimated time to the end of the search, or of the phase if the search is open-ended.

        None until a network was trained and when none is left to train.
        """
        trainings_left = self._trainings_left()
        if not self._paces or not trainings_left:
            return None
        seconds, epochs = (sum(column) for column in zip(*self._paces, strict=True))
        pace = seconds / len(self._paces)
        left = trainings_left * pace
        if self._budget_epochs_left is not None:
            left = min(left, (self._budget_epochs_left - self._num_epochs_here) * seconds / epochs)
        left -= min(self._clock() - self._last_event, pace)
        if self._budget_seconds_left is not None:
            left = min(left, self._budget_seconds_left - (self._clock() - self._generation_started))
        return max(0.0, left)

    def _trainings_left(self) -> float:
        # Until one is seen: half of a population survives, so about half is new in every later generation.
        num_new = sum(self._num_new) / len(self._num_new) if self._num_new else self.population_size / 2
        here = min(self._num_to_train - self._num_trained_here, self.num_individuals - self.num_finished)
        in_phase = max(0, here) + max(0, self._most_generations - 1 - self.generation) * num_new
        per_phase = self.population_size + (self._most_generations - 1) * num_new
        return in_phase + max(0, self.num_phases - 1 - self.phase) * per_phase

    def place(self) -> str:
        """Returns "phase 1/3 generation 2/3"."""
        return f"phase {self.phase_text()} generation {self.generation_text()}"

    def phase_text(self) -> str:
        """Returns "1/3", or "1" where nobody knows how many there are."""
        return _of(self.phase, self.num_phases)

    def generation_text(self) -> str:
        """Returns "2/3", or "2" where nobody knows how many there are."""
        return _of(self.generation, self.num_generations)

    def best_text(self) -> str:
        """Returns the best fitness so far, "none yet" before there is one."""
        return f"{self.best.fitness:.4f}" if self.best else "none yet"

    def time_left_text(self) -> str:
        """Returns "about 3 min to search", or nothing while that cannot be known."""
        seconds = self.seconds_left()
        if seconds is None:
            return ""
        return f"about {duration(seconds)} " + ("to search" if self.num_phases else "left in this phase")


class FinalView:
    """Where a final training stands.

    Args:
      num_epochs: at most.
      first_epoch: of this process, from 0.
      best_accuracy: on the validation images, of the epochs before; None where there is none.
      clock: seconds.
    """

    def __init__(
        self, num_epochs: int, first_epoch: int, best_accuracy: float | None, clock: Callable[[], float]
    ) -> None:
        self._num_epochs, self._first_epoch, self._epoch = num_epochs, first_epoch, first_epoch - 1
        self._clock = clock
        self._started = clock()
        self._last = ""
        self._best = best_accuracy
        self._pace: float | None = None  # seconds an epoch

    def epoch_finished(self, epoch: int, loss: float, accuracy: float | None) -> bool:
        """Takes note of an epoch; returns whether it is the best so far."""
        self._epoch, self._last = epoch, measured(loss, accuracy)
        improved = accuracy is not None and (self._best is None or accuracy > self._best)
        self._best = accuracy if improved else self._best
        self._pace = (self._clock() - self._started) / (epoch + 1 - self._first_epoch)
        return improved

    def seconds_left(self) -> float | None:
        """Returns the time to the last epoch there can be; None before an epoch has ended."""
        return None if self._pace is None else self._pace * (self._num_epochs - 1 - self._epoch)

    def finished(self) -> str:
        """Returns when it ended, and how well."""
        best = "" if self._best is None else f", best {self._best:.4f}"
        last = f": {self._last}" if self._last else ""
        return f"final training ended after epoch {self._epoch + 1}{last}{best}"

    def status(self) -> str:
        """Returns how well it goes and how long it may take."""
        parts = ["training the best network", self._last]
        if self._best is not None:
            parts.append(f"best {self._best:.4f}")
        if (left := self.seconds_left()) is not None:
            parts.append(f"at most {duration(left)} left")  # it stops early once it has converged
        return ", ".join(part for part in parts if part)


def measured(loss: float, accuracy: float | None) -> str:
    """Returns what an epoch of a training reached; nothing of an accuracy where nothing is held out."""
    return f"loss {loss:.4f}" + ("" if accuracy is None else f" accuracy {accuracy:.4f}")


def _of(index: int, total: int) -> str:
    return f"{index + 1}/{total}" if total else f"{index + 1}"


def _budget_text(budget: Mapping[str, Any]) -> str:
    limits = [f"{budget['epochs']:,} epochs"] if budget.get("epochs") else []
    limits += [f"{duration(budget['seconds'])} of evaluations"] if budget.get("seconds") else []
    return " or ".join(limits)


def duration(seconds: float) -> str:
    """Returns a length of time as a person would say it: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
