"""What a person sees of a run: where it stands, in lines for a log (`PlainProgress`).

`RunView` knows where a run stands and how long it may still take; `rich_progress.py` shows the same on a terminal.
People count phases, generations, individuals and epochs from 1.
"""

import collections
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlga_jax.fitness.status import OK, STOPPED
from vlga_jax.run.history import HistoryRow
from vlga_jax.run.tracking import NullListener, scores

_PACE_WINDOW = 30  # trainings that the pace averages over; later phases cost more, so old ones say little
_FINAL_LINE_EPOCHS, _FINAL_LINE_SECONDS = 10, 60.0  # whichever comes first


class RunView:
    """Where a run stands, as its events tell.

    The time left is the number of trainings to come times the time between recent ones, so parallel training is
    accounted for, and what was replayed from the ledger counts as free.

    Attributes:
      phase, generation: the current ones, from 0.
      num_phases: 0 if a stop rule decides.
      num_individuals: of the current generation; `num_finished` of them have their fitness.
      num_replayed: of the current generation, new individuals whose fitness came from the ledger.
      best: the first individual with the highest fitness so far, if any.
      num_trained: networks trained by this process.
      num_failed: individuals without a fitness so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._started = self._last_event = clock()
        self._gaps: collections.deque[float] = collections.deque(maxlen=_PACE_WINDOW)
        self._num_new: list[int] = []  # not survivors, for each generation after the first of a phase
        self._num_to_train = self._num_trained_here = 0
        self.num_replayed = 0
        self.num_phases = self.num_generations = self.population_size = 0
        self.phase = self.generation = self.num_individuals = self.num_finished = 0
        self.num_trained = self.num_failed = 0
        self.best: HistoryRow | None = None
        self.workdir = Path()

    def run_started(self, *, workdir: Path, num_phases: int, num_generations: int, population_size: int) -> None:
        self.workdir = workdir
        self.num_phases, self.num_generations, self.population_size = num_phases, num_generations, population_size
        self._started = self._last_event = self._clock()

    def generation_started(self, *, phase: int, generation: int, num_to_train: int, num_individuals: int) -> None:
        self.phase, self.generation, self.num_individuals = phase, generation, num_individuals
        self._num_to_train = num_to_train
        self._num_trained_here = self.num_finished = self.num_replayed = 0
        self._last_event = self._clock()

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        now = self._clock()
        if not replayed and seconds > 0:
            self._gaps.append(now - self._last_event)
            self.num_trained += 1
            self._num_trained_here += 1
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
        if not self._gaps or not trainings_left:
            return None
        pace = sum(self._gaps) / len(self._gaps)
        running = min(self._clock() - self._last_event, pace)
        return max(0.0, trainings_left * pace - running)

    def _trainings_left(self) -> float:
        # Until one is seen: half of a population survives, so about half is new in every later generation.
        num_new = sum(self._num_new) / len(self._num_new) if self._num_new else self.population_size / 2
        here = min(self._num_to_train - self._num_trained_here, self.num_individuals - self.num_finished)
        in_phase = max(0, here) + max(0, self.num_generations - 1 - self.generation) * num_new
        per_phase = self.population_size + (self.num_generations - 1) * num_new
        return in_phase + max(0, self.num_phases - 1 - self.phase) * per_phase

    def place(self) -> str:
        """Returns "phase 1/3 generation 2/3"."""
        phases = f"/{self.num_phases}" if self.num_phases else ""
        return f"phase {self.phase + 1}{phases} generation {self.generation + 1}/{self.num_generations}"

    def best_text(self) -> str:
        """Returns the best fitness so far, "none yet" before there is one."""
        return f"{self.best.fitness:.4f}" if self.best else "none yet"

    def time_left_text(self) -> str:
        """Returns "about 3 min left", or nothing while that cannot be known."""
        seconds = self.seconds_left()
        if seconds is None:
            return ""
        return f"about {duration(seconds)} left" + ("" if self.num_phases else " in this phase")


def duration(seconds: float) -> str:
    """Returns a length of time as a person would say it: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def start_line(view: RunView, workdir: Path) -> str:
    """Returns what a run is about to do, in one line."""
    phases = _count(view.num_phases, "phase") if view.num_phases else "phases until the stop rule"
    generations = f"{_count(view.num_generations, 'generation')} of {_count(view.population_size, 'individual')}"
    return f"searching in {workdir}: {phases}, {generations}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def generation_line(view: RunView, rows: Sequence[HistoryRow]) -> str:
    """Returns what a finished generation reached and how long the rest may take, in one line."""
    reached = scores(rows)
    numbers = "no individual was trained to its end" if reached.num_stopped else "no individual has a fitness"
    if reached.best is not None:
        numbers = f"best {reached.best:.4f} average {reached.average:.4f}"
    failed = f"{reached.num_failed} of {reached.num_individuals} failed" if reached.num_failed else ""
    stopped = f"{reached.num_stopped} stopped early" if reached.num_stopped else ""
    known = f"{view.num_replayed} already known" if view.num_replayed else ""
    parts = [numbers, failed, stopped, known, view.time_left_text()]
    return f"{view.place()} done: " + ", ".join(part for part in parts if part)


def _reached(row: HistoryRow) -> str:
    if row.status == OK:
        return f"fitness {row.fitness:.4f}"
    if row.status == STOPPED:
        return f"stopped after {_count(row.epochs, 'epoch')} at {row.fitness:.4f}"
    return f"failed: {' '.join(row.status.split())}"


def final_epoch_line(*, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> str:
    """Returns what an epoch of the final training reached."""
    measured = "" if accuracy is None else f" accuracy {accuracy:.4f}"
    return f"final training epoch {epoch + 1}/{num_epochs} loss {loss:.4f}{measured}"


def summary_lines(view: RunView, result: Mapping[str, Any], best_dir: Path) -> list[str]:
    """Returns what a finished run achieved and where to find it."""
    entries = [("best fitness", _number(result.get("best_fitness"), ".4f") + " validation accuracy")]
    entries.append(("test accuracy", _number(result.get("test_accuracy"), ".4f")))
    entries.append(("parameters", _number(result.get("num_parameters"), ",d")))
    networks, individuals = (_number(result.get(f"num_{of}"), ",d") for of in ("evaluations", "individuals"))
    trained = f"{view.num_trained} trained this time"
    entries.append(("evaluated", f"{networks} networks for {individuals} individuals, {trained}"))
    entries.append(("best network", str(best_dir)))
    entries.append(("everything", str(view.workdir)))
    width = max(len(name) for name, _ in entries)
    return [f"finished in {duration(view.elapsed_seconds())}"] + [f"  {name:{width}}  {text}" for name, text in entries]


def _number(value: Any, form: str) -> str:
    return "unknown" if value is None else format(value, form)


class PlainProgress(NullListener):
    """Lines for a log: at most one for each trained individual, one for each generation, few for the final training."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._view, self._clock = RunView(clock), clock
        self._best_final: float | None = None
        self._final_started = self._final_line = 0.0  # by the clock
        self._first_final_epoch = 0

    def _print(self, line: str) -> None:
        # Flushed, because a log is read while the run goes on and must be whole if the run is killed.
        print(line, flush=True)

    def run_started(
        self,
        *,
        workdir: Path,
        config: Mapping[str, Any],
        num_phases: int,
        num_generations: int,
        population_size: int,
    ) -> None:
        self._view.run_started(
            workdir=workdir, num_phases=num_phases, num_generations=num_generations, population_size=population_size
        )
        self._print(start_line(self._view, workdir))

    def generation_started(self, *, phase: int, generation: int, num_to_train: int, num_individuals: int) -> None:
        self._view.generation_started(
            phase=phase, generation=generation, num_to_train=num_to_train, num_individuals=num_individuals
        )

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        self._view.individual_finished(row=row, seconds=seconds, replayed=replayed)
        if replayed:  # a resumed run would repeat its whole log
            return
        place = f"{self._view.place()} individual {row.individual + 1}/{self._view.num_individuals}"
        self._print(f"{place} {_reached(row)} (best {self._view.best_text()}) {seconds:.1f}s")

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        self._view.generation_finished(rows)
        self._print(generation_line(self._view, rows))

    def final_started(self, *, num_epochs: int, first_epoch: int) -> None:
        self._final_started = self._final_line = self._clock()
        self._first_final_epoch = first_epoch
        self._print(f"final training: epochs {first_epoch + 1} to {num_epochs} at most")

    def final_epoch_finished(self, *, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        improved = accuracy is not None and (self._best_final is None or accuracy > self._best_final)
        if improved:
            self._best_final = accuracy
        now, num_left = self._clock(), num_epochs - 1 - epoch
        slow = now - self._final_line >= _FINAL_LINE_SECONDS
        if improved or slow or (epoch + 1) % _FINAL_LINE_EPOCHS == 0 or not num_left:
            line = final_epoch_line(epoch=epoch, num_epochs=num_epochs, loss=loss, accuracy=accuracy)
            pace = (now - self._final_started) / (epoch + 1 - self._first_final_epoch)
            left = f", at most about {duration(num_left * pace)} left" if slow and num_left else ""
            self._print(line + (" (best)" if improved else "") + left)
            self._final_line = now

    def message(self, *, text: str) -> None:
        self._print(text)

    def run_finished(self, *, result: Mapping[str, Any], best_dir: Path) -> None:
        for line in summary_lines(self._view, result, best_dir):
            self._print(line)
