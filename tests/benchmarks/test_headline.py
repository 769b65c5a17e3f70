"""The headline's pieces: that each can be parsed, runs once, goes on after a break, and what is made of them."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from benchmarks.headline import __main__ as headline
from benchmarks.headline import report, state
from benchmarks.headline.pieces import DETERMINISM, ROWS, SCALES, Piece, make_pieces
from benchmarks.headline.state import State, opened
from vlga_jax.checks import InputError
from vlga_jax.config import read_command_line
from vlga_jax.run.laboratory import RunConfig, parse_config

DATA = ConfigDict({"name": "npz", "dir": "/data"})


def config_of(piece: Piece) -> RunConfig:
    return parse_config(read_command_line(piece.command[1:], Path("main.py")).values)


@pytest.mark.parametrize("scale", list(SCALES))
def test_make_pieces_gives_runs_that_can_be_parsed_and_differ(scale: str, tmp_path: Path) -> None:
    pieces = make_pieces(SCALES[scale], tmp_path, DATA, pytorch="python")
    runs = {piece.name: config_of(piece) for piece in pieces if "main.py" in piece.command}
    assert len({piece.name for piece in pieces}) == len(pieces)
    seeds = SCALES[scale].seeds
    expected = {f"{row.name}-0" for row in (*ROWS, *DETERMINISM.values())}
    assert runs.keys() == expected | {f"{name}-{seed}" for name in ("report", "baseline") for seed in range(seeds)}
    assert all(config.seed == int(name.rpartition("-")[2]) for name, config in runs.items())
    assert runs["report-1"].search.parent_selection == "softmax"  # type: ignore[attr-defined]
    uniform = dataclasses.replace(runs["report-1"].search, parent_selection="uniform")  # type: ignore[type-var]
    assert runs["baseline-1"] == dataclasses.replace(runs["report-1"], search=uniform)
    assert runs["fixed_a-0"] == runs["fixed_b-0"]
    free = dataclasses.replace(runs["free-0"].fitness, deterministic=True)
    assert runs["fixed_a-0"] == dataclasses.replace(runs["free-0"], fitness=free)
    others = [name for name in runs if not name.startswith("fixed") and name != "long-0"]
    assert len({repr(runs[name]) for name in others}) == len(others)
    assert runs["long-0"].fitness.ledger == str(tmp_path / "ours-0" / "ledger.sqlite")
    budgets = {runs[f"{name}-0"].budget.epochs for name in ("random", "classical", "aging")}
    assert len(budgets) == 1 and budgets != {0}


def test_make_pieces_in_another_place_asks_for_the_same(tmp_path: Path) -> None:
    here = make_pieces(SCALES["full"], tmp_path, DATA, pytorch="python")
    there = make_pieces(
        SCALES["full"], tmp_path / "there", ConfigDict({"name": "cifar10", "dir": "/"}), pytorch="other"
    )
    assert [(one.name, one.identity) for one in here] == [(one.name, one.identity) for one in there]
    assert len({(one.name.rpartition("-")[0], one.identity) for one in here}) == len(here) - 2 * 2  # rounds are alike


def test_make_pieces_of_the_workload_is_a_round_of_each_in_turn(tmp_path: Path) -> None:
    with_rival = make_pieces(SCALES["full"], tmp_path, DATA, pytorch="python")
    names = [piece.name for piece in with_rival if piece.name.startswith("full")]
    assert names == [f"full-{who}-{number}" for number in range(3) for who in ("ours", "pytorch")]
    alone = make_pieces(SCALES["full"], tmp_path, DATA, pytorch="")
    assert [piece.name for piece in alone if piece.name.startswith("full")] == names[::2]


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
        with opened(tmp_path / "work", 0) as held:
            held.run([one])
            assert held.is_done(one) and held.failed == []
            assert 0.3 < held.seconds("piece") < 30 and held.calls("piece") == 1
    assert num_runs(tmp_path) == 1


def test_run_of_a_changed_piece_runs_it_again(tmp_path: Path) -> None:
    for program in ("1", "2"):
        with opened(tmp_path / "work", 0) as held:
            held.run([piece(tmp_path, program)])
    assert num_runs(tmp_path) == 2


@pytest.mark.usefixtures("hurried")
def test_run_of_a_piece_cut_short_goes_on_and_adds_up(tmp_path: Path) -> None:
    program = "import os, time; time.sleep(0 if os.path.getsize({!r}) > 1 else 60)".format(str(tmp_path / "runs"))
    one, after = piece(tmp_path, program), piece(tmp_path / "after", "", name="after")
    (tmp_path / "after").mkdir()
    started = time.monotonic()
    with opened(tmp_path / "work", 2.0) as held:
        held.run([one, after])
        assert not held.is_done(one) and held.failed == []
        first = held.seconds("piece")
        assert held.calls("piece") == 1
    assert time.monotonic() - started < 20
    with opened(tmp_path / "work", 0) as held:
        held.run([one, after])
        assert held.is_done(one) and held.calls("piece") == 2 and held.seconds("piece") > first
    assert (num_runs(tmp_path), num_runs(tmp_path / "after")) == (2, 1)


@pytest.mark.usefixtures("hurried")
def test_run_of_a_piece_that_needs_longer_leaves_it_to_another_call(tmp_path: Path) -> None:
    one = piece(tmp_path, "", needs_seconds=100.0)
    with opened(tmp_path / "work", 50.0) as held:
        held.run([one])
        assert not held.is_done(one)
    with opened(tmp_path / "work", 150.0) as held:
        held.run([one])
        assert held.is_done(one)
    assert num_runs(tmp_path) == 1


def test_run_of_a_piece_that_fails_says_so_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = piece(tmp_path, "raise SystemExit(3)", name="bad")
    (tmp_path / "good").mkdir()
    good = piece(tmp_path / "good", "", name="good")
    with opened(tmp_path / "work", 0) as held:
        held.run([bad, good])
        assert held.failed == ["bad"] and held.is_done(good) and not held.is_done(bad)
    assert "bad: " in (said := capsys.readouterr().out) and "failed with exit code 3" in said


def test_opened_twice_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, 0), pytest.raises(InputError, match="in use by another call"), opened(tmp_path, 0):
        pass


def run_left(workdir: Path, name: str, accuracy: float, **final: float) -> Piece:
    """A finished piece and what its run left."""
    directory = workdir / name
    (directory / "best").mkdir(parents=True)
    result = {
        "num_flops": 10,
        "num_parameters": 5,
        "num_evaluations": 7,
        "best_fitness": accuracy - 0.1,
        "test_accuracy": accuracy,
        "final": {"test_accuracy": accuracy, **final},
    }
    timing = {"train_seconds": 1.0, "compile_seconds": 2.0, "final_images_per_second": 100.0}
    for file, values in (("result.json", result), ("timing.json", timing)):
        (directory / file).write_text(json.dumps(values))
    (directory / "history.csv").write_text(f"{accuracy}")
    (directory / "best" / "weights.npz").write_bytes(b"weights")
    return Piece(name, ("command", str(workdir)), (name,), directory / "timing.json")


def done_state(workdir: Path, pieces: list[Piece], seconds: dict[str, float]) -> State:
    values = {
        one.name: {"identity": list(one.identity), "seconds": seconds[one.name], "calls": 1, "done": True}
        for one in pieces
    }
    (workdir / "pieces.json").write_text(json.dumps(values))
    return State(workdir, 0)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The report of two seeds of both parents' choices, our run, the determinism's runs and one piece not done."""
    monkeypatch.setattr(report, "_matrix_rate", lambda _: 6000.0)
    pieces = [run_left(tmp_path, f"report-{seed}", 0.8 + 0.02 * seed) for seed in range(2)]
    pieces += [run_left(tmp_path, f"baseline-{seed}", 0.8) for seed in range(2)]
    pieces += [run_left(tmp_path, "ours-0", 0.9, test_accuracy_with_flip=0.95), run_left(tmp_path, "long-0", 0.96)]
    pieces += [run_left(tmp_path, f"{name}-0", 0.5) for name in DETERMINISM]
    seconds = {one.name: 60.0 for one in pieces} | {"report-1": 180.0, "free-0": 40.0}
    held = done_state(tmp_path, pieces, seconds)
    pieces.append(Piece("paper-0", ("command",), (), tmp_path / "paper-0" / "timing.json"))
    return report.write_report(held, pieces, tmp_path, scale_name="small", pytorch=False)


def test_write_report_has_a_row_for_what_is_done(measured: dict[str, Any]) -> None:
    rows = [line for line in measured["table"].splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 4
    assert "| our settings (`cifar10.py`) | 1 | 7 | 0.8000 | 0.9000 | 0.9500 | 1.0 | aim 95 % in 30 min |" in rows
    (of_report,) = [row for row in rows if "weighted parents" in row]
    assert "| 2 | 7 | 0.7100 [0.7000, 0.7200] | 0.8100 [0.8000, 0.8200] |  | 2.0 | 87.25 %" in of_report
    (of_long,) = [row for row in rows if "300 epochs" in row]
    assert "| 2.0 |" in of_long  # with the search's minute


def test_write_report_compares_parents_by_seed(measured: dict[str, Any]) -> None:
    difference = measured["weighted_less_uniform"]["test_accuracy"]
    assert (difference["mean"], difference["n"]) == (pytest.approx(0.01), 2)
    assert "over 2 paired seeds: +0.0100 [+0.0000, +0.0200]" in measured["table"]


def test_write_report_says_what_determinism_costs_and_whether_it_holds(measured: dict[str, Any]) -> None:
    assert measured["determinism"]["same_bytes"] is True
    assert measured["determinism"]["deterministic_over_free"] == 1.5
    assert "left the same bytes; they take 1.50 times as long" in measured["table"]


def test_determinism_of_other_bytes_is_told(measured: dict[str, Any], tmp_path: Path) -> None:
    assert measured["determinism"]["same_bytes"]
    (tmp_path / "fixed_b-0" / "best" / "weights.npz").write_bytes(b"others")
    names = {f"{name}-0" for name in DETERMINISM}
    found = report._determinism(State(tmp_path, 0), names, tmp_path)
    assert found is not None and found["same_bytes"] is False


def test_write_report_gives_speed_as_a_share_of_the_matrix_rate(measured: dict[str, Any]) -> None:
    (run,) = measured["runs"]["ours"]
    assert run["final_share_of_matrix_rate"] == pytest.approx(3 * 10 * 100 / 6000)
    assert "100 images a second, 50 % of the rate of a matrix product" in measured["table"]


def test_write_report_lists_what_is_not_measured_and_names_no_path(measured: dict[str, Any], tmp_path: Path) -> None:
    assert [one["piece"] for one in measured["not_measured"]] == ["paper-0", "full-pytorch"]
    assert not measured["complete"]
    written = (tmp_path / "headline.json").read_text()
    assert json.loads(written) == json.loads(json.dumps(measured))
    assert str(tmp_path) not in written and sys.executable not in written


def test_full_compares_medians_of_whole_processes(tmp_path: Path) -> None:
    seconds = {f"full-{who}-{number}": each for who, of in TIMES.items() for number, each in enumerate(of)}
    (tmp_path / "full").mkdir()
    pieces = []
    for name in seconds:
        file = tmp_path / "full" / f"{name.removeprefix('full-')}.json"
        file.write_text(json.dumps({"individuals": [{"fitness": 0.2}, {"fitness": 0.4}]}))
        pieces.append(Piece(name, ("command",), (), file))
    found = report._full(done_state(tmp_path, pieces, seconds), set(seconds), tmp_path)
    assert found is not None and found["pytorch_over_ours"] == 30 / 20
    assert found["ours"]["mean_fitness"] == [pytest.approx(0.3)] * 3
    assert report._full(State(tmp_path, 0), {name for name in seconds if "pytorch" in name}, tmp_path) is None


TIMES = {"ours": (10.0, 20.0, 90.0), "pytorch": (31.0, 30.0, 29.0)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale=tiny"], "--scale"),
        (["--minutes=-1"], "minutes"),
        (["rest"], "is no flag"),
        (["--data_dir=/nowhere", "--scale=small"], "no such directory"),
        ([], "needs an NVIDIA GPU"),
    ],
)
def test_main_of_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headline, "machine", lambda: {"gpu": ""})
    assert headline.main(["headline", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1
