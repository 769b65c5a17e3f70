"""What a person sees of a run on a terminal."""

import io
import logging
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.run.telling import Clock, row, tell_of_a_run
from vlga_jax.run.rich_progress import RichProgress


def terminal(width: int) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, height=40, color_system=None, _environ={})
    return console, stream


def frames(stream: io.StringIO) -> list[str]:
    """The lines that a terminal was sent, redrawn ones again each time, without its control codes."""
    text = stream.getvalue().replace("\r", "\n")  # each redraw starts by going back
    return [line for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines() if line]


@pytest.mark.parametrize("width", [24, 40, 100])
def test_rich_progress_any_width_draws_all_bars_within_it(width: int) -> None:
    console, stream = terminal(width)
    listener = RichProgress(console, clock=Clock())
    listener.run_started(workdir=Path("r"), config={}, num_phases=5, num_generations=3, population_size=10)
    listener.generation_started(phase=1, generation=2, num_to_train=6, num_individuals=10)
    listener.individual_finished(row=row(0.94102), seconds=2.0, replayed=False)
    listener.epoch_finished(network="abc", epoch=1, num_epochs=3, loss=0.25, accuracy=0.75)
    listener.close()
    drawn = frames(stream)
    start = max(place for place, line in enumerate(drawn) if line.startswith("epoch"))
    last = drawn[start - 3 : start + 5]
    assert [re.split(r"[━╸╺]", line)[0].split() for line in last[:4]] == [
        ["phase", "2/5"],
        ["generation", "3/3"],
        ["individual", "1/10"],
        ["epoch", "2/3"],
    ]
    assert all(0 < len(line) <= width for line in last[:4])
    assert all(re.search(r"[━╸╺]", line) for line in last[:4])
    assert "best 0.9410, training: loss 0.2500 accuracy 0.7500" in " ".join(line.strip() for line in drawn[start + 1 :])


def test_rich_progress_whole_run_leaves_its_lines_whole() -> None:
    console, stream = terminal(50)
    tell_of_a_run(RichProgress(console, clock=Clock()))
    text = "\n".join(frames(stream))
    assert "searching in runs/[digits]: 3 phases, 3 generations of 10 individuals" in text  # not broken at 50
    assert "mind the [red]gap" in text
    assert "final training ended after epoch 1: loss 0.5000 accuracy 0.9700, best 0.9700" in text
    assert "  everything     runs/[digits]" in text
    assert "final epoch 0/12" in text or "final epoch 1/12" in text


def test_rich_progress_closed_gives_the_terminal_back() -> None:
    before = sys.stdout, sys.stderr
    log = logging.StreamHandler(sys.stderr)
    root = logging.getLogger()
    root.addHandler(log)
    console, stream = terminal(80)
    listener = RichProgress(console)
    try:
        listener.run_started(workdir=Path("r"), config={}, num_phases=1, num_generations=1, population_size=2)
        assert log.stream is sys.stderr and log.stream is not before[1]
        logging.warning("a warning")
    finally:
        listener.close()
        root.removeHandler(log)
    assert (sys.stdout, sys.stderr) == before
    assert log.stream is before[1]
    assert "a warning" in frames(stream)  # a line of its own, above the bars
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")  # the cursor is back
    listener.close()


def test_rich_progress_open_ended_search_shows_no_total() -> None:
    console, stream = terminal(60)
    listener = RichProgress(console, clock=Clock())
    listener.run_started(workdir=Path("r"), config={}, num_phases=0, num_generations=3, population_size=10)
    listener.generation_started(phase=6, generation=0, num_to_train=10, num_individuals=10)
    listener.close()
    text = "\n".join(frames(stream))
    assert "phases until the stop rule" in text
    assert re.search(r"^phase +7 ", text, re.MULTILINE)
