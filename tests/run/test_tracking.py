"""Listeners can watch a run and never harm it."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlga_jax.checks import InputError, parse
from vlga_jax.run.history import HistoryRow
from vlga_jax.run.tracking import (
    FanOut,
    Listener,
    ListenerGaveUp,
    NullListener,
    TrackingConfig,
    make_listener,
    scores,
)

VALUES = {"progress": "none", "wandb": "disabled", "wandb_project": "test", "wandb_timeout_seconds": 10.0}
EVENTS = [name for name, _ in inspect.getmembers(Listener, inspect.isfunction) if not name.startswith("_")]


def config(**changes: Any) -> TrackingConfig:
    return parse(TrackingConfig, {**VALUES, **changes}, "config.tracking")


def row(fitness: float, status: str = "ok", individual: int = 0) -> HistoryRow:
    return HistoryRow(0, 0, individual, "initial", None, None, [{"kernel": 3}], 0.001, "abc", 3, fitness, status)


SAMPLES: dict[str, Any] = {
    **dict.fromkeys(("num_phases", "num_generations", "population_size", "phase", "generation", "num_to_train"), 1),
    **dict.fromkeys(("num_individuals", "num_epochs", "epoch", "first_epoch", "budget_epochs_left"), 1),
    **dict.fromkeys(("loss", "accuracy", "best_accuracy", "seconds", "budget_seconds_left"), 0.5),
    **dict.fromkeys(("workdir", "best_dir"), Path()),
    **dict.fromkeys(("config", "result"), {"a": 1}),
    **dict.fromkeys(("network", "text"), "abc"),
    "row": row(0.5),
    "rows": [row(0.5)],
    "replayed": False,
}


class Recorder(NullListener):
    """Remembers what it was told; raises `error` at the event `bad`."""

    def __init__(self, bad: str = "", error: BaseException | None = None):
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._bad, self._error = bad, error

    def hear(self, event: str, values: dict[str, Any]) -> None:
        self.told.append((event, values))
        if event == self._bad and self._error is not None:
            raise self._error


for name in EVENTS:
    setattr(Recorder, name, lambda self, event=name, **values: self.hear(event, values))


@pytest.mark.parametrize("event", EVENTS)
def test_fan_out_any_event_reaches_all_listeners_unchanged(event: str) -> None:
    first, second = Recorder(), Recorder()
    values = {} if event == "close" else {"text": "hello", "other": 3}
    getattr(FanOut(first, second), event)(**values)
    assert first.told == second.told == [(event, values)]


@pytest.mark.parametrize("event", EVENTS)
def test_null_listener_any_event_has_the_protocols_signature(event: str) -> None:
    assert inspect.signature(getattr(NullListener, event)) == inspect.signature(getattr(Listener, event))
    parameters = inspect.signature(getattr(NullListener, event)).parameters
    getattr(NullListener(), event)(**{name: SAMPLES[name] for name in parameters if name != "self"})


@pytest.mark.parametrize("event", [event for event in EVENTS if event != "close"])
def test_fan_out_listener_raises_warns_once_and_drops_it(event: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = Recorder(event, ValueError("no\nluck")), Recorder()
    fan_out = FanOut(bad, good)
    for _ in range(3):
        getattr(fan_out, event)()
    fan_out.close()
    assert [name for name, _ in bad.told] == [event, "close"]
    assert [name for name, _ in good.told] == [event] * 3 + ["close"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: Recorder failed and is off; the run goes on (ValueError: no luck)\n"


def test_fan_out_listener_gives_up_warns_with_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    FanOut(Recorder("message", ListenerGaveUp("the server\nis gone"))).message(text="hello")
    assert capsys.readouterr().err == "warning: the server is gone\n"


def test_fan_out_close_raises_closes_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    listeners = [Recorder(), Recorder("close", OSError("disk")), Recorder()]
    FanOut(*listeners).close()
    assert [listener.told[0][0] for listener in listeners] == ["close"] * 3
    assert capsys.readouterr().err.count("warning") == 1


def test_fan_out_interrupted_passes_the_interrupt_and_closes_all() -> None:
    listeners = [Recorder(), Recorder("close", KeyboardInterrupt()), Recorder("message", KeyboardInterrupt())]
    fan_out = FanOut(*listeners)
    with pytest.raises(KeyboardInterrupt):
        fan_out.message(text="hello")
    with pytest.raises(KeyboardInterrupt):
        fan_out.close()
    assert [listener.told[-1][0] for listener in listeners] == ["close"] * 3


def test_fan_out_closed_twice_closes_each_listener_once() -> None:
    listener = Recorder()
    fan_out = FanOut(listener)
    fan_out.close()
    fan_out.close()
    assert listener.told == [("close", {})]


def test_fan_out_warning_cannot_be_printed_still_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = open(tmp_path / "stderr", "w")  # noqa: SIM115
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    good = Recorder()
    FanOut(Recorder("message", ValueError()), good).message(text="hello")
    assert good.told == [("message", {"text": "hello"})]


def test_fan_out_listener_speaks_while_told_loses_the_deaf_one_only() -> None:
    """A listener announces through the fan-out, which meanwhile drops another one."""
    fan_out = FanOut()

    class Speaker(NullListener):
        def run_finished(self, **values: Any) -> None:
            fan_out.message(text="hello")

    deaf, last = Recorder("message", ValueError()), Recorder()
    for listener in (Speaker(), deaf, last):
        fan_out.add(listener)
    fan_out.run_finished()
    assert [name for name, _ in deaf.told] == ["message", "close"]
    assert [name for name, _ in last.told] == ["message", "run_finished"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("progress", "bar"), ("wandb", "on"), ("wandb_project", ""), ("wandb_timeout_seconds", 0.0)],
)
def test_tracking_config_bad_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"config.tracking.{field}="):
        config(**{field: value})


@pytest.mark.parametrize(
    ("progress", "is_terminal", "term", "chosen"),
    [
        ("auto", True, "xterm", ["RichProgress"]),
        ("auto", True, "dumb", ["PlainProgress"]),
        ("auto", False, "xterm", ["PlainProgress"]),
        ("rich", False, "xterm", ["RichProgress"]),
        ("plain", True, "xterm", ["PlainProgress"]),
        ("none", True, "xterm", []),
    ],
)
def test_make_listener_progress_chooses_the_display(
    progress: str, is_terminal: bool, term: str, chosen: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    added: list[str] = []
    monkeypatch.setattr(FanOut, "add", lambda self, listener: added.append(type(listener).__name__))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    monkeypatch.setenv("TERM", term)
    make_listener(config(progress=progress), workdir=tmp_path)
    assert added == chosen


def test_make_listener_whose_output_is_closed_prints_plain_lines_to_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as `>&-` leaves it
    make_listener(config(progress="auto"), workdir=tmp_path).message(text="nobody reads this")


def test_make_listener_wandb_disabled_imports_and_leaves_nothing(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from vlga_jax.run.tracking import TrackingConfig, make_listener
listener = make_listener(TrackingConfig("plain", "disabled", "test", 10.0), workdir=Path({str(tmp_path)!r}))
listener.run_started(workdir=Path(), config={{}}, num_phases=1, num_generations=1, population_size=2)
listener.close()
print([name for name in ("wandb", "subprocess", "rich", "matplotlib", "jax") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert not list(tmp_path.iterdir())


def test_scores_with_failures_leave_them_out() -> None:
    reached = scores([row(0.5), row(0.0, "diverged"), row(0.75), row(0.25)])
    assert (reached.best, reached.average) == (0.75, 0.5)
    assert (reached.num_individuals, reached.num_failed) == (4, 1)


def test_scores_with_networks_that_stopped_count_them_apart() -> None:
    reached = scores([row(0.5), row(0.9, "stopped"), row(0.0, "diverged"), row(0.25)])
    assert (reached.best, reached.average) == (0.5, 0.375)
    assert (reached.num_individuals, reached.num_failed, reached.num_stopped) == (4, 1, 1)


def test_scores_all_failed_have_no_numbers() -> None:
    reached = scores([row(0.0, "diverged"), row(0.0, "diverged")])
    assert (reached.best, reached.average, reached.num_failed) == (None, None, 2)
