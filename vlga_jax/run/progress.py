"""What a person sees of a run in a log: lines (`PlainProgress`); `rich_progress.py` shows the same on a terminal."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlga_jax.fitness.status import OK, STOPPED, is_rejection
from vlga_jax.run.history import HistoryRow
from vlga_jax.run.run_view import FinalView, RunView, duration, measured
from vlga_jax.run.tracking import NullListener, scores

_FINAL_LINE_EPOCHS = 10
_QUIET_SECONDS = 30.0  # after so long without a line the next epoch gets one


def start_line(view: RunView) -> str:
    """Returns what a run is about to do, in one line."""
    phases = _count(view.num_phases, "phase") if view.num_phases else "phases until the stop rule"
    generations = _count(view.num_generations, "generation") if view.num_generations else "generations"
    budget = f", at most {view.budget}" if view.budget else ""
    return (
        f"searching in {view.workdir}: {phases}, {generations} of {_count(view.population_size, 'individual')}{budget}"
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def generation_line(view: RunView, rows: Sequence[HistoryRow]) -> str:
    """Returns what a finished generation reached and how long the rest may take, in one line."""
    reached = scores(rows)
    numbers = "no individual was trained to its end" if reached.num_stopped else "no individual has a fitness"
    if reached.best is not None:
        numbers = f"best {reached.best:.4f} average {reached.average:.4f}"
    failed = f"{reached.num_failed} of {reached.num_individuals} without a fitness" if reached.num_failed else ""
    stopped = f"{reached.num_stopped} stopped early" if reached.num_stopped else ""
    known = f"{view.num_replayed} already known" if view.num_replayed else ""
    parts = [numbers, failed, stopped, known, view.time_left_text()]
    return f"{view.place()} done: " + ", ".join(part for part in parts if part)


def _reached(row: HistoryRow) -> str:
    if row.status == OK:
        return f"fitness {row.fitness:.4f}"
    if row.status == STOPPED:
        return f"stopped after {_count(row.epochs, 'epoch')} at {row.fitness:.4f}"
    return f"{'rejected' if is_rejection(row.status) else 'failed'}: {' '.join(row.status.split())}"


def summary_lines(view: RunView, result: Mapping[str, Any], best_dir: Path) -> list[str]:
    """Returns what a finished run achieved and where to find it."""
    entries = [("best fitness", _number(result.get("best_fitness"), ".4f") + " validation accuracy")]
    winner = result.get("architecture", {})
    if winner.get("fitness", result.get("best_fitness")) != result.get("best_fitness"):
        of_winner = f"{winner['fitness']:.4f}, of phase {winner['found_in']['phase'] + 1}"
        entries.append(("winner", f"{of_winner}; this network is trained and tested"))
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
    """Lines for a log: at most one for each trained individual, one for each generation, few for the final training.

    Where that leaves it silent for half a minute, the next epoch to end has a line of its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._view, self._clock = RunView(clock), clock
        self._final: FinalView | None = None
        self._last_line = clock()

    def _print(self, line: str) -> None:
        # Flushed, because a log is read while the run goes on and must be whole if the run is killed.
        print(line, flush=True)
        self._last_line = self._clock()

    def _is_quiet(self) -> bool:
        return self._clock() - self._last_line >= _QUIET_SECONDS

    def run_started(self, **event: Any) -> None:
        self._view.run_started(**event)
        self._print(start_line(self._view))

    def generation_started(self, **event: Any) -> None:
        self._view.generation_started(**event)

    def epoch_finished(self, *, network: str, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        if self._is_quiet():
            view = self._view
            done = f"{view.num_finished} of {_count(view.num_individuals, 'individual')} done"
            self._print(f"{view.place()} training: epoch {epoch + 1}/{num_epochs} loss {loss:.4f}, {done}")

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        self._view.individual_finished(row=row, seconds=seconds, replayed=replayed)
        if replayed:  # a resumed run would repeat its whole log
            return
        place = f"{self._view.place()} individual {row.individual + 1}/{self._view.num_individuals}"
        self._print(f"{place} {_reached(row)} (best {self._view.best_text()}) {seconds:.1f}s")

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        self._view.generation_finished(rows)
        self._print(generation_line(self._view, rows))

    def final_started(self, *, num_epochs: int, first_epoch: int, best_accuracy: float | None) -> None:
        self._final = FinalView(num_epochs, first_epoch, best_accuracy, self._clock)
        if first_epoch < num_epochs:  # else what is left is its export and test
            self._print(f"final training: epochs {first_epoch + 1} to {num_epochs} at most")

    def final_epoch_finished(self, *, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        if self._final is None:  # nobody told of its start
            self._final = FinalView(num_epochs, epoch, None, self._clock)
        improved = self._final.epoch_finished(epoch, loss, accuracy)
        slow, num_left = self._is_quiet(), num_epochs - 1 - epoch
        if improved or slow or (epoch + 1) % _FINAL_LINE_EPOCHS == 0 or not num_left:
            line = f"final training epoch {epoch + 1}/{num_epochs} {measured(loss, accuracy)}"
            seconds = self._final.seconds_left() if slow and num_left else None
            left = "" if seconds is None else f", at most about {duration(seconds)} left"
            self._print(line + (" (best)" if improved else "") + left)

    def message(self, *, text: str) -> None:
        self._print(text)

    def run_finished(self, *, result: Mapping[str, Any], best_dir: Path) -> None:
        if self._final is not None:
            self._print(self._final.finished())
        for line in summary_lines(self._view, result, best_dir):
            self._print(line)
