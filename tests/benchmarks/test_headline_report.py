"""What the headline's report makes of the pieces."""

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.headline import report
from benchmarks.headline.pieces import MATRIX_RATE, Piece
from benchmarks.headline.rows import DETERMINISM
from benchmarks.headline.state import State
from vlga_jax.network.spec import NetworkSpec

SETTINGS = {"gpu": "none", "scale": "small"}
NETWORK = NetworkSpec((1, 1, 1), 3, "relu", "average", ())  # a dense layer of three products
FLOPS = 2 * 2 * 3  # forward, and the gradient of its weights


def run_left(workdir: Path, name: str, accuracy: float, **final: Any) -> Piece:
    """A finished piece and what its run left."""
    directory = workdir / name
    (directory / "best").mkdir(parents=True)
    result = {
        "num_flops": 10,
        "num_parameters": 5,
        "num_evaluations": 7,
        "best_fitness": accuracy - 0.1,
        "test_accuracy": accuracy,
        "final": {"test_accuracy": accuracy, "num_epochs": 9, **final},
        "architecture": {"network": NETWORK.to_json()},
    }
    timing = {
        "train_seconds": 3.0 if name.startswith("fixed") else 2.0,
        "compile_seconds": 2.0,
        "wall_seconds": 50.0,
        "search_seconds": 20.0,
        "final_images_per_second": 100.0,
    }
    for file, values in (("result.json", result), ("timing.json", timing)):
        (directory / file).write_text(json.dumps(values))
    (directory / "history.csv").write_text(f"{accuracy}")
    (directory / "best" / "weights.npz").write_bytes(b"weights")
    return Piece(name, ("command", str(workdir)), ("--config=file", name), directory / "timing.json")


def cores_of(piece: Piece) -> list[int]:
    """Of the hosts that a piece ran on, a call each; it is not known of one piece."""
    return {"ours-0": [2, 16], MATRIX_RATE: []}.get(piece.name, [2])


def done_state(workdir: Path, pieces: list[Piece], seconds: dict[str, float]) -> State:
    values = {
        one.name: {
            "identity": list(one.identity),
            "seconds": seconds[one.name],
            "calls": 1,
            "done": True,
            "machines": [{"processor": "any", "cores": cores, "memory_gib": place} for cores in cores_of(one)],
        }
        for place, one in enumerate(pieces)
    }
    (workdir / "pieces.json").write_text(json.dumps({"settings": SETTINGS, "pieces": values}))
    return State(workdir, math.inf, SETTINGS)


@pytest.fixture
def measured(tmp_path: Path) -> dict[str, Any]:
    """The report of two seeds of both parents' choices, our run, the determinism's runs and one piece not done."""
    pieces = [run_left(tmp_path, f"report-{seed}", 0.8 + 0.02 * seed) for seed in range(2)]
    pieces += [run_left(tmp_path, f"baseline-{seed}", 0.8) for seed in range(2)]
    pieces += [run_left(tmp_path, "ours-0", 0.9, test_accuracy_with_flip=0.95)]
    pieces += [run_left(tmp_path, "long-0", 0.96, num_epochs=4, failure="a loss was not finite")]
    (tmp_path / MATRIX_RATE).write_text("6000.0")
    pieces.append(Piece(MATRIX_RATE, ("command",), (), tmp_path / MATRIX_RATE))
    pieces += [run_left(tmp_path, f"{name}-0", 0.5) for name in DETERMINISM]
    seconds = {one.name: 60.0 for one in pieces} | {"report-1": 180.0, "free-0": 40.0}
    held = done_state(tmp_path, pieces, seconds)
    pieces.append(Piece("paper-0", ("command",), (), tmp_path / "paper-0" / "timing.json"))
    return report.write_report(held, pieces, tmp_path, command="make headline", pytorch=False)


def test_write_report_has_a_row_for_what_is_done(measured: dict[str, Any]) -> None:
    rows = [line for line in measured["table"].splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 4
    assert measured["table"].startswith("**Cut down, to try the script: these accuracies and times mean nothing.**")
    assert "| our settings (`cifar10.py`) | 1 | 7 | 0.8000 | 0.9000 | 0.9500 | 1.0 | aim: 95 % in 30 min |" in rows
    (of_report,) = [row for row in rows if "weighted parents" in row]
    assert "| 2 | 7 | 0.7100 [0.7000, 0.7200] | 0.8100 [0.8000, 0.8200] |  | 2.0 | 87.25 %" in of_report
    (of_long,) = [row for row in rows if "300 epochs" in row]
    assert "| 1.5 |" in of_long  # 60 s, and the 30 s of our search: of its 60 s, 30 s were final training
    assert measured["runs"]["report"][0]["command"] == "python main.py --config=file"


def test_search_seconds_are_those_until_the_final_training_began_if_that_was_seen(tmp_path: Path) -> None:
    ours = run_left(tmp_path, "ours-0", 0.9)
    held = done_state(tmp_path, [ours], {"ours-0": 60.0})
    assert report._search_seconds(held, "ours-0", tmp_path / "ours-0") == 30.0
    kept = json.loads((tmp_path / "pieces.json").read_text())
    kept["pieces"]["ours-0"]["searched_after"] = 13.0  # the final training spans calls: the last one's part is 30 s
    (tmp_path / "pieces.json").write_text(json.dumps(kept))
    held = State(tmp_path, math.inf, SETTINGS)
    assert report._search_seconds(held, "ours-0", tmp_path / "ours-0") == 13.0


def test_write_report_leaves_out_what_stands_on_a_piece_that_begins_anew(tmp_path: Path) -> None:
    ours = run_left(tmp_path, "ours-0", 0.9)
    long = dataclasses.replace(run_left(tmp_path, "long-0", 0.96), after=ours.done)
    held = done_state(tmp_path, [ours, long], {"ours-0": 60.0, "long-0": 60.0})
    found = report.write_report(held, [ours, long], tmp_path, command="make headline", pytorch=True)
    assert [run["seconds"] for run in found["runs"]["long"]] == [90.0] and found["complete"]
    shutil.rmtree(tmp_path / "ours-0")
    changed = dataclasses.replace(ours, identity=("--config=changed",))
    found = report.write_report(held, [changed, long], tmp_path, command="make headline", pytorch=True)
    assert found["runs"]["long"] == [] and [one["piece"] for one in found["not_measured"]] == ["ours-0", "long-0"]


def test_write_report_tells_of_a_final_training_that_failed(measured: dict[str, Any]) -> None:
    words = "The final training of long, seed 0, failed after 4 epochs (a loss was not finite): its best epoch counts."
    assert words in measured["table"] and measured["table"].count("failed after") == 1
    assert [run["final_epochs"] for run in measured["runs"]["ours"]] == [9]


def test_write_report_says_on_which_hosts_it_was_measured(measured: dict[str, Any]) -> None:
    assert sorted(one["cores"] for one in measured["machines"]) == [2, 16]  # of equal ones one, whatever its memory
    assert "Measured on 2 kinds of host with that GPU" in measured["table"]


def test_write_report_compares_parents_by_seed(measured: dict[str, Any]) -> None:
    difference = measured["weighted_less_uniform"]["test_accuracy"]
    assert (difference["mean"], difference["n"]) == (pytest.approx(0.01), 2)
    assert "over 2 paired seeds: +0.0100 [+0.0000, +0.0200]" in measured["table"]


def test_write_report_says_what_determinism_costs_and_whether_it_holds(measured: dict[str, Any]) -> None:
    assert measured["determinism"]["same_bytes"] is True
    assert measured["determinism"]["train_seconds_over_free"] == 1.5
    assert "left the same bytes; of the time without them: training 1.50, compiling 1.00." in measured["table"]


@pytest.mark.parametrize("file", ["history.csv", "best/weights.npz"])
def test_determinism_of_other_bytes_is_told(file: str, tmp_path: Path) -> None:
    done = {f"{name}-0": run_left(tmp_path, f"{name}-0", 0.5) for name in DETERMINISM}
    found = report._determinism(done)
    assert found is not None and found["same_bytes"] is True
    (tmp_path / "fixed_b-0" / file).write_bytes(b"others")
    found = report._determinism(done)
    assert found is not None and found["same_bytes"] is False


def test_write_report_gives_speed_as_a_share_of_the_matrix_rate(measured: dict[str, Any]) -> None:
    (run,) = measured["runs"]["ours"]
    assert run["final_share_of_matrix_rate"] == pytest.approx(FLOPS * 100 / 6000)
    assert "100 images a second, 20 % of the rate of a matrix product" in measured["table"]


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
    held, done = done_state(tmp_path, pieces, seconds), {one.name: one for one in pieces}
    found = report._full(held, done)
    assert found is not None and found["pytorch_over_ours"] == 30 / 20
    assert found["ours"]["mean_fitness"] == [pytest.approx(0.3)] * 3
    assert report._full(held, {name: one for name, one in done.items() if "pytorch" in name}) is None


@pytest.mark.parametrize(("calls", "told"), [((1, 1), False), ((1, 3), True)])
def test_sentences_tell_how_many_calls_pytorch_took(calls: tuple[int, int], told: bool, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    pieces = []
    for who in ("ours-0", "pytorch-0", "pytorch-1"):
        (tmp_path / "full" / f"{who}.json").write_text(json.dumps({"individuals": [{"fitness": 0.2}]}))
        pieces.append(Piece(f"full-{who}", ("command",), (), tmp_path / "full" / f"{who}.json"))
    done_state(tmp_path, pieces, {one.name: 10.0 for one in pieces})
    kept = json.loads((tmp_path / "pieces.json").read_text())
    for number, count in enumerate(calls):
        kept["pieces"][f"full-pytorch-{number}"]["calls"] = count
    (tmp_path / "pieces.json").write_text(json.dumps(kept))
    held = State(tmp_path, math.inf, SETTINGS)
    found = report.write_report(held, pieces, tmp_path, command="make headline", pytorch=True)
    assert found["full"]["pytorch"]["calls"] == list(calls)
    assert ("PyTorch took up to 3 calls a round: each one's start counts, and the" in found["table"]) is told


TIMES = {"ours": (10.0, 20.0, 90.0), "pytorch": (31.0, 30.0, 29.0)}
