"""Listeners of a run: who they are, what they are told, and why they can never harm it.

A search tells one `Listener` what happens; `make_listener` builds it from a `TrackingConfig` as a fan-out over a
progress display and wandb. Nothing here decides anything: a listener that raises is dropped with one warning and the
run goes on.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vlga_jax.checks import knob
from vlga_jax.fitness.status import OK, STOPPED
from vlga_jax.run.history import HistoryRow


@dataclasses.dataclass(frozen=True)
class TrackingConfig:
    """How a run is watched; none of it changes a result.

    Attributes:
      progress: auto (rich on a terminal, plain elsewhere), rich, plain or none.
      wandb: disabled, offline (recorded below WORKDIR/wandb) or online.
      wandb_project: the wandb project that runs are filed under.
      wandb_timeout_seconds: longest that wandb may hold up the whole run; also how long its server has to answer.
    """

    progress: str = knob(one_of=("auto", "rich", "plain", "none"))
    wandb: str = knob(one_of=("disabled", "offline", "online"))
    wandb_project: str = knob()
    wandb_timeout_seconds: float = knob(above=0.0)


@runtime_checkable
class Listener(Protocol):
    """What a run tells those who watch it; phases, generations, individuals and epochs count from 0.

    All calls come from the thread that runs the search. `NullListener` is the base to build on.
    """

    def run_started(
        self,
        *,
        workdir: Path,
        config: Mapping[str, Any],
        num_phases: int,
        num_generations: int,
        population_size: int,
    ) -> None:
        """A run, new or resumed, begins; `num_phases` is 0 if a stop rule decides."""

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
        """A generation was chosen; `num_to_train` of its `num_individuals` have no fitness yet.

        What is left of the budget is None where that is no limit.
        """

    def epoch_finished(self, *, network: str, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        """One network's fitness training finished an epoch."""

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        """An individual has its fitness; `replayed` if none was trained for it, else that took `seconds`."""

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        """All individuals of a generation have their fitness."""

    def final_started(self, *, num_epochs: int, first_epoch: int, best_accuracy: float | None) -> None:
        """The final training begins, or goes on at `first_epoch`; it ends after `num_epochs` or before.

        `best_accuracy` is that of the epochs before, None where there is none.
        """

    def final_epoch_finished(self, *, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        """The final training finished an epoch; no `accuracy` where nothing is held out."""

    def message(self, *, text: str) -> None:
        """A line for the person watching."""

    def run_finished(self, *, result: Mapping[str, Any], best_dir: Path) -> None:
        """The run is complete; `result` is what `result.json` holds."""

    def close(self) -> None:
        """Releases everything; always called last, also after a failure; calling it again does nothing."""


class NullListener:
    """A listener that ignores everything; subclasses override what they care about."""

    def run_started(
        self,
        *,
        workdir: Path,
        config: Mapping[str, Any],
        num_phases: int,
        num_generations: int,
        population_size: int,
    ) -> None:
        pass

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
        pass

    def epoch_finished(self, *, network: str, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        pass

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        pass

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        pass

    def final_started(self, *, num_epochs: int, first_epoch: int, best_accuracy: float | None) -> None:
        pass

    def final_epoch_finished(self, *, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        pass

    def message(self, *, text: str) -> None:
        pass

    def run_finished(self, *, result: Mapping[str, Any], best_dir: Path) -> None:
        pass

    def close(self) -> None:
        pass


class ListenerGaveUp(Exception):
    """A listener cannot go on for a reason outside the program; its message is one line for the person watching."""


class FanOut:
    """A `Listener` that tells several, and drops one, with one warning on stderr, the first time it raises.

    Only `Exception` is caught: a KeyboardInterrupt passes, also out of `close`, after every listener was closed.
    """

    def __init__(self, *listeners: Listener):
        self._listeners = list(listeners)

    def add(self, listener: Listener) -> None:
        """Tells `listener` too from now on; those added first are told first and closed last."""
        self._listeners.append(listener)

    def run_started(self, **event: Any) -> None:
        self._tell("run_started", event)

    def generation_started(self, **event: Any) -> None:
        self._tell("generation_started", event)

    def epoch_finished(self, **event: Any) -> None:
        self._tell("epoch_finished", event)

    def individual_finished(self, **event: Any) -> None:
        self._tell("individual_finished", event)

    def generation_finished(self, **event: Any) -> None:
        self._tell("generation_finished", event)

    def final_started(self, **event: Any) -> None:
        self._tell("final_started", event)

    def final_epoch_finished(self, **event: Any) -> None:
        self._tell("final_epoch_finished", event)

    def message(self, **event: Any) -> None:
        self._tell("message", event)

    def run_finished(self, **event: Any) -> None:
        self._tell("run_finished", event)

    def close(self) -> None:
        # The last listener closes first, so that the display, which stands first, can still show what it has to say.
        with contextlib.ExitStack() as stack:
            for listener in self._listeners:
                stack.callback(self._guarded, listener, "close", {})
        self._listeners.clear()

    def _tell(self, event: str, values: Mapping[str, Any]) -> None:
        for listener in tuple(self._listeners):
            self._guarded(listener, event, values)

    def _guarded(self, listener: Listener, event: str, values: Mapping[str, Any]) -> None:
        if listener not in self._listeners:  # a listener that sends a message may have lost another one meanwhile
            return
        try:
            getattr(listener, event)(**values)
        except Exception as error:
            self._listeners.remove(listener)
            with contextlib.suppress(Exception):
                listener.close()
            with contextlib.suppress(Exception):
                print(f"warning: {_reason(listener, error)}", file=sys.stderr, flush=True)


def _reason(listener: Listener, error: Exception) -> str:
    if isinstance(error, ListenerGaveUp):
        return " ".join(str(error).split())
    text = f"{type(listener).__name__} failed and is off; the run goes on ({type(error).__name__}: {error})"
    return " ".join(text.split())


def make_listener(config: TrackingConfig, *, workdir: Path) -> Listener:
    """Returns the fan-out over the listeners that `config` chooses; libraries of the others are not imported.

    Args:
      config: see `TrackingConfig`.
      workdir: the run's directory; wandb keeps its run id and its records there.
    """
    fan_out = FanOut()
    progress = config.progress
    if progress == "auto":
        watched = sys.stdout is not None and sys.stdout.isatty()  # None where the caller closed it
        progress = "rich" if watched and os.environ.get("TERM") != "dumb" else "plain"
    if progress == "rich":
        from vlga_jax.run.rich_progress import RichProgress

        fan_out.add(RichProgress())
    if progress == "plain":
        from vlga_jax.run.progress import PlainProgress

        fan_out.add(PlainProgress())
    if config.wandb != "disabled":
        from vlga_jax.run.wandb_listener import WandbListener

        fan_out.add(WandbListener(config, workdir=workdir, announce=lambda text: fan_out.message(text=text)))
    return fan_out


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a generation reached.

    Attributes:
      best, average: fitness over the individuals that were trained to their end; None if none was.
      num_individuals: all individuals of the generation.
      num_failed: those without a fitness.
      num_stopped: those that stopped early.
    """

    best: float | None
    average: float | None
    num_individuals: int
    num_failed: int
    num_stopped: int


def scores(rows: Sequence[HistoryRow]) -> Scores:
    """Returns the best and the average fitness of a generation's `rows`; failed and stopped ones are left out."""
    fitnesses = [row.fitness for row in rows if row.status == OK]
    num_stopped = sum(row.status == STOPPED for row in rows)
    return Scores(
        best=max(fitnesses, default=None),
        average=sum(fitnesses) / len(fitnesses) if fitnesses else None,
        num_individuals=len(rows),
        num_failed=len(rows) - len(fitnesses) - num_stopped,
        num_stopped=num_stopped,
    )
