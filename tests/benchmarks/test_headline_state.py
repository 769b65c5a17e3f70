"""The headline's pieces run once, go on after a break, and none keeps the others waiting."""

import contextlib
import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.headline import state
from benchmarks.headline.pieces import Piece
from benchmarks.headline.state import State, opened
from benchmarks.machine import machine
from vlga_jax.checks import InputError

ROOT = Path(__file__).resolve().parents[2]


def call(directory: Path, seconds: float | None = None, **settings: str) -> contextlib.AbstractContextManager[State]:
    """One call with so many seconds left."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    return opened(directory / "work", deadline, {"machine": "here", **settings})


def piece(directory: Path, program: str, name: str = "piece", **values: Any) -> Piece:
    """A piece that appends an x to its file `runs` before it runs `program`."""
    count = f"open({str(directory / 'runs')!r}, 'a').write('x')"
    finish = f"open({str(directory / 'done')!r}, 'w').close()"
    command = (sys.executable, "-c", f"{count}\n{program}\n{finish}")
    return Piece(name, command, (program,), directory / "done", **values)


def num_runs(directory: Path) -> int:
    return len((directory / "runs").read_text()) if (directory / "runs").is_file() else 0


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of a second or two are worth using."""
    monkeypatch.setattr(state, "_WIND_DOWN_SECONDS", 0.9)
    monkeypatch.setattr(state, "_LEAST_SECONDS", 0.0)


def test_run_of_a_piece_runs_it_once(tmp_path: Path) -> None:
    one = piece(tmp_path, "import time; time.sleep(0.3)")
    for _ in range(2):
        with call(tmp_path) as held:
            held.run([one])
            assert held.is_done(one) and held.failed == []
            assert 0.3 < held.seconds("piece") < 30 and held.calls("piece") == 1
    assert num_runs(tmp_path) == 1


def test_run_of_a_piece_that_needs_another_waits_until_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    first = piece(tmp_path / "first", "", name="first")
    second = piece(tmp_path, "", name="second", after=first.done)
    with call(tmp_path) as held:
        held.run([second])
        assert not held.is_done(second) and held.failed == [] and num_runs(tmp_path) == 0
        held.run([first, second])
        assert held.is_done(second) and num_runs(tmp_path) == 1
        assert held.machines("second") == [machine()]
        changed = piece(tmp_path / "first", "raise SystemExit(3)", name="first")
        held.run([changed, dataclasses.replace(second, identity=("another",))])
        assert held.failed == ["first"], "what it left before is not what is asked for now"
        assert held.is_done(second)


def test_run_of_a_changed_piece_runs_it_again(tmp_path: Path) -> None:
    for program in ("1", "2"):
        with call(tmp_path) as held:
            held.run([piece(tmp_path, program)])
    assert num_runs(tmp_path) == 2


def test_run_of_a_changed_piece_begins_from_nothing(tmp_path: Path) -> None:
    own, partial, shared = tmp_path / "own", tmp_path / "partial", tmp_path / "shared"
    for program, calls in (("1", 1), ("1", 2), ("2", 1)):
        with call(tmp_path) as held:
            held.run([piece(tmp_path, f"raise SystemExit({program})", owns=(own, partial))])
            assert held.calls("piece") == calls
        assert own.is_dir() == partial.is_file() == (calls == 2)
        own.mkdir(exist_ok=True)
        for file in (own / "ledger.sqlite", partial, shared):
            file.touch()
    assert num_runs(tmp_path) == 3 and shared.is_file()
    assert (tmp_path / "own.old1" / "ledger.sqlite").is_file() and (tmp_path / "partial.old1").is_file()


@pytest.mark.usefixtures("hurried")
def test_run_without_a_break_begins_from_nothing_and_goes_by_the_longest_of_its_row(tmp_path: Path) -> None:
    longest = 0.0
    program = "import os, time; assert not os.path.exists({!r}); time.sleep(60)".format(str(tmp_path / "own"))
    for name, seconds in (("row-0", 3.0), ("row-1", 2.0), ("row-0", 4.0)):
        with call(tmp_path, seconds) as held:
            one = piece(tmp_path, program, name=name, needs_seconds=0.1, owns=(tmp_path / "own",))
            assert held.needs(one) == max(0.1, 1.1 * longest)
            held.run([one])
            assert held.failed == []
        kept = json.loads((tmp_path / "work" / "pieces.json").read_text())["pieces"]
        longest = max(longest, *(known.get("cut_after", 0.0) for known in kept.values()))
        (tmp_path / "own").mkdir(exist_ok=True)
    assert num_runs(tmp_path) == 2  # row-1 was not tried in less than row-0 was cut short after
    assert longest > 2.5
    with call(tmp_path) as held:
        assert held.needs(piece(tmp_path, program, name="row-2", needs_seconds=0.1)) == 1.1 * longest
        assert held.needs(piece(tmp_path, program, name="row-2")) == 0.0  # it goes on
        assert held.needs(piece(tmp_path, "another", name="row-2", needs_seconds=0.1)) == 0.1


@pytest.mark.usefixtures("hurried")
def test_run_that_fails_after_it_was_cut_short_still_needs_as_long(tmp_path: Path) -> None:
    program = "import os, time; os.path.getsize({!r}) > 1 and exit(3); time.sleep(60)".format(str(tmp_path / "runs"))
    one = piece(tmp_path, program, needs_seconds=0.1)
    with call(tmp_path, 2.0) as held:
        held.run([one])
        needs = held.needs(one)
    with call(tmp_path) as held:
        held.run([one])
        assert held.failed == ["piece"] and held.needs(one) == needs > 0.9


SEARCHED = """
import os, pathlib, time
final, again = pathlib.Path({final!r}), os.path.getsize({runs!r}) > 1
if not again:
    time.sleep(0.8)
final.mkdir(exist_ok=True)
time.sleep(0.6 if again else 60)
final.rmdir()
"""


@pytest.mark.usefixtures("hurried")
def test_run_notes_when_the_search_ended_over_all_calls(tmp_path: Path) -> None:
    program = SEARCHED.format(final=str(tmp_path / "final"), runs=str(tmp_path / "runs"))
    one = piece(tmp_path, program, searched=tmp_path / "final")
    with call(tmp_path, 4.0) as held:
        held.run([one])
        assert not held.is_done(one)
        searched_after, cut_after = held.searched_after("piece"), held.seconds("piece")
        assert searched_after is not None and 0.8 < searched_after < cut_after
    with call(tmp_path) as held:
        held.run([one])
        assert held.is_done(one) and held.searched_after("piece") == searched_after
        assert held.seconds("piece") > cut_after + 0.6
        never = piece(tmp_path, "", name="never", searched=tmp_path / "final")
        held.run([never])
        assert held.searched_after("never") is None


@pytest.mark.usefixtures("hurried")
def test_run_of_a_piece_cut_short_goes_on_and_adds_up(tmp_path: Path) -> None:
    program = "import os, time; time.sleep(0 if os.path.getsize({!r}) > 1 else 60)".format(str(tmp_path / "runs"))
    one, after = piece(tmp_path, program), piece(tmp_path / "after", "", name="after")
    (tmp_path / "after").mkdir()
    started = time.monotonic()
    with call(tmp_path, 2.0) as held:
        held.run([one, after])
        assert not held.is_done(one) and held.failed == []
        first = held.seconds("piece")
        assert held.calls("piece") == 1
    assert time.monotonic() - started < 20
    with call(tmp_path) as held:
        held.run([one, after])
        assert held.is_done(one) and held.calls("piece") == 2 and held.seconds("piece") > first
    assert (num_runs(tmp_path), num_runs(tmp_path / "after")) == (2, 1)


@pytest.mark.usefixtures("hurried")
def test_run_of_a_piece_that_needs_longer_leaves_it_to_another_call(tmp_path: Path) -> None:
    one = piece(tmp_path, "", needs_seconds=100.0)
    with call(tmp_path, 50.0) as held:
        held.run([one])
        assert not held.is_done(one)
    with call(tmp_path, 150.0) as held:
        held.run([one])
        assert held.is_done(one)
    assert num_runs(tmp_path) == 1


def test_run_of_a_piece_that_fails_says_so_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = piece(tmp_path, "raise SystemExit(3)", name="bad")
    (tmp_path / "good").mkdir()
    good = piece(tmp_path / "good", "", name="good")
    with call(tmp_path) as held:
        held.run([bad, good])
        assert held.failed == ["bad"] and held.is_done(good) and not held.is_done(bad)
    assert "bad: " in (said := capsys.readouterr().out) and "failed with exit code 3" in said


def test_opened_twice_is_refused(tmp_path: Path) -> None:
    with call(tmp_path), pytest.raises(InputError, match="in use by another call"), call(tmp_path):
        pass


def test_opened_with_other_settings_is_refused(tmp_path: Path) -> None:
    one = piece(tmp_path, "")
    with call(tmp_path) as held:
        held.run([one])
    with pytest.raises(InputError, match="holds pieces with machine 'here', now it is 'there'"):
        call(tmp_path, machine="there").__enter__()
    with call(tmp_path) as held:
        assert held.is_done(one)


@pytest.mark.usefixtures("hurried")
def test_run_of_a_piece_too_long_for_a_call_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    long = piece(tmp_path, "import time; time.sleep(60)", name="long", needs_seconds=0.5)
    (tmp_path / "other").mkdir()
    other = piece(tmp_path / "other", "", name="other")
    with call(tmp_path, 2.0) as held:
        held.run([long, other])
        assert not held.is_done(long) and not held.is_done(other)
        assert held.needs(long) > 1.0
    with call(tmp_path, 2.0) as held:
        held.run([long, other])
        assert held.is_done(other)
    assert (num_runs(tmp_path), num_runs(tmp_path / "other")) == (1, 1)


def test_run_of_a_piece_that_failed_comes_last_in_the_next_call(tmp_path: Path) -> None:
    bad = piece(tmp_path, "raise SystemExit(3)", name="bad")
    (tmp_path / "good").mkdir()
    good = piece(tmp_path / "good", "", name="good", needs_seconds=100.0)
    for left in (70.0, None):  # not enough for the good one at first
        with call(tmp_path, left) as held:
            held.run([bad, good])
    kept = json.loads((tmp_path / "work" / "pieces.json").read_text())["pieces"]
    assert list(kept) == ["bad", "good"] and held.is_done(good)
    assert num_runs(tmp_path) == 2


def test_run_of_a_piece_that_starts_again_has_an_empty_cache(tmp_path: Path) -> None:
    program = "import os, pathlib; cache = pathlib.Path(os.environ['JAX_COMPILATION_CACHE_DIR'])"
    program += "; assert not list(cache.iterdir()); (cache / 'program').touch(); raise SystemExit(3)"
    one = piece(tmp_path, program, needs_seconds=1.0)
    for _ in range(2):
        with call(tmp_path) as held:
            held.run([one])
    assert "Error" not in (tmp_path / "work" / "piece.log").read_text()
    assert num_runs(tmp_path) == 2


def test_run_whose_caller_is_killed_ends_the_piece(tmp_path: Path) -> None:
    program = f"""
import math, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.headline.pieces import Piece
from benchmarks.headline.state import opened
child = "import time, pathlib; pathlib.Path({str(tmp_path / "began")!r}).touch(); time.sleep(4); "
child += "pathlib.Path({str(tmp_path / "ended")!r}).touch()"
piece = Piece("piece", (sys.executable, "-c", child), (), Path({str(tmp_path / "ended")!r}))
with opened(Path({str(tmp_path / "work")!r}), math.inf, {{}}) as held:
    held.run([piece])
"""
    caller = subprocess.Popen([sys.executable, "-c", program])
    while not (tmp_path / "began").exists():
        assert caller.poll() is None
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    time.sleep(5)
    assert not (tmp_path / "ended").exists()
