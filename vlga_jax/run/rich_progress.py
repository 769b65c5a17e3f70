"""What a person sees of a run on a terminal: one live display of bars, with lines that stay above it."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from vlga_jax.run.history import HistoryRow
from vlga_jax.run.progress import generation_line, start_line, summary_lines
from vlga_jax.run.run_view import FinalView, RunView, duration, measured
from vlga_jax.run.tracking import NullListener

_SEARCH_BARS = ("phase", "generation", "individual", "epoch")


class _Display(Progress):
    """Bars over a line of text; both belong to the same `rich.live.Live`."""

    def __init__(self, status: Callable[[], str], **kwargs: Any):
        self._status = status
        super().__init__(**kwargs)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table([task for task in self.tasks if task.visible])
        yield Text(self._status())


class RichProgress(NullListener):
    """Bars for phases, generations, individuals and epochs, with the best fitness so far and the time left.

    Each generation leaves one line above the bars, so that scrolling back tells the story of the run.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = console or Console()
        self._clock = clock
        self._view = RunView(clock)
        self._final: FinalView | None = None
        self._training = ""
        self._moved_handlers: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._display = _Display(
            self._status,
            console=self._console,
            transient=True,  # what lasts is printed as lines
            expand=True,
            refresh_per_second=4,
        )
        self._display.columns = (
            TextColumn("{task.description}"),
            TextColumn("{task.fields[count]}", justify="right"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green", pulse_style="cyan"),
        )
        self._bars: dict[str, TaskID] = {}

    def _print(self, line: str, *, style: str = "", wrap: bool = False) -> None:
        # As `Text`, so that brackets in a path are not taken for markup. Left to the terminal to wrap, so that a path
        # or a command copies whole, except where words matter more.
        self._console.print(Text(line, style=style), soft_wrap=not wrap)

    def _move(self, name: str, done: int | float, total: int, count: str) -> None:
        """Sets a bar; a `total` of 0 means that nobody knows."""
        if name not in self._bars:
            self._bars[name] = self._display.add_task(name, count=count)
        self._display.update(self._bars[name], completed=done, total=total or None, count=count)

    def run_started(self, **event: Any) -> None:
        self._view.run_started(**event)
        self._print(start_line(self._view))
        streams = sys.stdout, sys.stderr
        self._display.start()
        self._move_handlers(streams)

    def _move_handlers(self, streams: tuple[Any, Any]) -> None:
        """Makes log handlers made before the display write above it: they hold the streams that it has replaced."""
        for handler in logging.getLogger().handlers:
            # absl's own handler wraps the one that writes
            handler = getattr(handler, "python_handler", handler)
            if isinstance(handler, logging.StreamHandler) and handler.stream in streams:
                self._moved_handlers.append((handler, handler.stream))
                handler.setStream(sys.stderr)

    def _status(self) -> str:
        view = self._view
        if self._final is not None:
            return self._final.status()
        parts = [f"best {view.best_text()}", self._training, f"{duration(view.elapsed_seconds())} so far"]
        if view.num_failed:
            parts.insert(1, f"{view.num_failed} without a fitness")
        return ", ".join(part for part in [*parts, view.time_left_text()] if part)

    def _show_search(self) -> None:
        view = self._view
        individuals = view.num_finished / max(1, view.num_individuals)
        generations = view.generation + individuals
        phases = view.phase + (generations / view.num_generations if view.num_generations else 0)
        self._move("phase", phases, view.num_phases, view.phase_text())
        self._move("generation", generations, view.num_generations, view.generation_text())
        count = f"{view.num_finished}/{view.num_individuals}"
        self._move("individual", view.num_finished, view.num_individuals, count)

    def generation_started(self, **event: Any) -> None:
        self._view.generation_started(**event)
        self._show_search()

    def epoch_finished(self, *, network: str, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        self._training = f"training: {measured(loss, accuracy)}"
        self._move("epoch", epoch + 1, num_epochs, f"{epoch + 1}/{num_epochs}")

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        self._view.individual_finished(row=row, seconds=seconds, replayed=replayed)
        self._show_search()

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        self._view.generation_finished(rows)
        self._show_search()
        self._print(generation_line(self._view, rows), wrap=True)

    def final_started(self, *, num_epochs: int, first_epoch: int, best_accuracy: float | None) -> None:
        self._final = FinalView(num_epochs, first_epoch, best_accuracy, self._clock)
        for bar in self._bars.values():
            self._display.update(bar, visible=False)
        self._move("final epoch", first_epoch, num_epochs, f"{first_epoch}/{num_epochs}")

    def final_epoch_finished(self, *, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        if self._final is not None:
            self._final.epoch_finished(epoch, loss, accuracy)
        self._move("final epoch", epoch + 1, num_epochs, f"{epoch + 1}/{num_epochs}")

    def message(self, *, text: str) -> None:
        self._print(text)

    def run_finished(self, *, result: Mapping[str, Any], best_dir: Path) -> None:
        self.close()
        if self._final is not None:
            self._print(self._final.finished())
        heading, *lines = summary_lines(self._view, result, best_dir)
        self._print(heading, style="bold")
        for line in lines:
            self._print(line)

    def close(self) -> None:
        for handler, stream in self._moved_handlers:
            handler.setStream(stream)
        self._moved_handlers.clear()
        self._display.stop()
