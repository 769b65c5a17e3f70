"""The headline table and everything behind it, from what the pieces left."""

import datetime
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline.pieces import DETERMINISM, ROWS, Piece, Row
from benchmarks.headline.state import State
from benchmarks.machine import machine, versions
from vlga_jax.run.history import write_atomically
from vlga_jax.run.report.comparison import interval_words
from vlga_jax.run.report.statistics import Interval, bootstrap_mean, paired

_HEADER = ("", "seeds", "networks", "best fitness", "test accuracy", "mirrored, too", "minutes", "published, or aim")
_NOTE = (
    "Minutes are those of the whole process: start, data, compiling, search, final training and test; of several seeds "
    "the median. Accuracies of several seeds are means with 95 % bootstrap intervals. Fitness is validation accuracy; "
    "'mirrored, too' is a "
    "second reading of the test: each image and its mirror image together."
)
_PASSES = 3  # over a network in training: forward, and the gradients of inputs and weights


def write_report(
    state: State, pieces: Sequence[Piece], workdir: Path, *, scale_name: str, pytorch: bool
) -> dict[str, Any]:
    """Returns what was measured so far, written to WORKDIR/headline.json, and prints its table.

    Args:
      state: of the pieces.
      pieces: all of them.
      workdir: where they lie.
      scale_name: full or small.
      pytorch: whether there is one to compare with.
    """
    command = f"make headline SCALE={scale_name}"
    done = [piece for piece in pieces if state.is_done(piece)]
    names = {piece.name for piece in done}
    rate = _matrix_rate(workdir) if "ours-0" in names else None
    runs = {
        row.name: [_record(state, row, workdir, name, rate) for name in sorted(names) if _is_of(row, name)]
        for row in ROWS
    }
    missing = [{"piece": piece.name, "command": command} for piece in pieces if piece not in done]
    if not pytorch:
        missing.append({"piece": "full-pytorch", "command": f"VLGA_PEER_PYTORCH=PYTHON {command}"})
    result = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "scale": scale_name,
        "machine": machine(),
        "versions": versions(),
        "matrix_gflops": None if rate is None else round(rate / 1e9, 1),
        "complete": not [piece for piece in pieces if piece not in done],
        "runs": runs,
        "weighted_less_uniform": _weighted_less_uniform(runs),
        "determinism": _determinism(state, names, workdir),
        "full": _full(state, names, workdir),
        "not_measured": missing,
    }
    result["table"] = _table(result)
    write_atomically(workdir / "headline.json", json.dumps(result, indent=1) + "\n")
    print(f"\n{result['table']}", flush=True)
    return result


def _is_of(row: Row, name: str) -> bool:
    return name.rpartition("-")[0] == row.name


def _record(state: State, row: Row, workdir: Path, name: str, rate: float | None) -> dict[str, Any]:
    result = json.loads((workdir / name / "result.json").read_text())
    timing = json.loads((workdir / name / "timing.json").read_text())
    seed = int(name.rpartition("-")[2])
    speed = timing["final_images_per_second"]
    share = _PASSES * result["num_flops"] * speed / rate if speed and rate else None
    return {
        "seed": seed,
        "seconds": state.seconds(name) + (state.seconds(f"{row.known_from}-{seed}") if row.known_from else 0.0),
        "calls": state.calls(name),
        "num_evaluations": result["num_evaluations"],
        "best_fitness": result["best_fitness"],
        "test_accuracy": result["test_accuracy"],
        "test_accuracy_with_flip": result["final"].get("test_accuracy_with_flip"),
        "num_parameters": result["num_parameters"],
        "num_flops": result["num_flops"],
        "final_images_per_second": speed,
        "final_share_of_matrix_rate": share,
        "train_seconds": timing["train_seconds"],
        "compile_seconds": timing["compile_seconds"],
    }


def _matrix_rate(workdir: Path) -> float:
    """Operations a second of a matrix product, measured once for a workdir, in a process of its own."""
    path = workdir / "matrix_rate"
    if not path.is_file():
        command = [sys.executable, "-m", "benchmarks.matrix_rate", "bfloat16" if machine()["gpu"] else "float32"]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True)
        write_atomically(path, done.stdout)
    return float(path.read_text())


def _weighted_less_uniform(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """What fitness-weighted parents exceed uniform ones by, paired by seed; None without a pair."""
    found = {}
    for value in ("test_accuracy", "best_fitness"):
        weighted, uniform = ({run["seed"]: run[value] for run in runs[name]} for name in ("report", "baseline"))
        if not weighted.keys() & uniform.keys():
            return None
        found[value] = {name: _plain(x) for name, x in paired(uniform, weighted)._asdict().items()}
    return found


def _plain(value: float) -> float | None:
    return None if value != value else value  # NaN is no JSON


def _determinism(state: State, names: set[str], workdir: Path) -> dict[str, Any] | None:
    """Whether two runs with deterministic kernels left the same bytes, and what those kernels cost."""
    pieces = {name: f"{name}-0" for name in DETERMINISM}
    if not names.issuperset(pieces.values()):
        return None
    left = [
        [(workdir / pieces[name] / file).read_bytes() for file in ("history.csv", "best/weights.npz")]
        for name in ("fixed_a", "fixed_b")
    ]
    seconds = {name: state.seconds(piece) for name, piece in pieces.items()}
    return {
        "same_bytes": left[0] == left[1],
        "seconds": seconds,
        "deterministic_over_free": (seconds["fixed_a"] + seconds["fixed_b"]) / 2 / seconds["free"],
    }


def _full(state: State, names: set[str], workdir: Path) -> dict[str, Any] | None:
    """The same networks here and in PyTorch: seconds of whole processes and mean fitness, a round each."""
    found: dict[str, Any] = {}
    for who in ("ours", "pytorch"):
        rounds = sorted(name for name in names if name.startswith(f"full-{who}-"))
        files = [workdir / "full" / f"{name.removeprefix('full-')}.json" for name in rounds]
        fitness = [[one["fitness"] for one in json.loads(file.read_text())["individuals"]] for file in files]
        found[who] = {
            "seconds": [state.seconds(name) for name in rounds],
            "mean_fitness": [statistics.mean(values) for values in fitness],
        }
    if not found["ours"]["seconds"]:
        return None
    if found["pytorch"]["seconds"]:
        medians = {who: statistics.median(found[who]["seconds"]) for who in found}
        found["pytorch_over_ours"] = medians["pytorch"] / medians["ours"]
    return found


def _table(result: Mapping[str, Any]) -> str:
    lines = [_line(_HEADER), _line(["---", *["---:"] * (len(_HEADER) - 2), "---"])]
    lines += [_line(_cells(row, result["runs"][row.name])) for row in ROWS if result["runs"][row.name]]
    return "\n".join([*lines, "", _NOTE, *_sentences(result)]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    flipped = [run["test_accuracy_with_flip"] for run in runs if run["test_accuracy_with_flip"] is not None]
    return [
        f"{row.title} (`{row.experiment}.py`)",
        str(len(runs)),
        f"{statistics.median(run['num_evaluations'] for run in runs):.0f}",
        interval_words(bootstrap_mean([run["best_fitness"] for run in runs])),
        interval_words(bootstrap_mean([run["test_accuracy"] for run in runs])),
        interval_words(bootstrap_mean(flipped)) if flipped else "",
        f"{statistics.median(run['seconds'] for run in runs) / 60:.1f}",
        row.published,
    ]


def _sentences(result: Mapping[str, Any]) -> list[str]:
    said = []
    if difference := result["weighted_less_uniform"]:
        value = difference["test_accuracy"]
        ends = [float("nan") if value[name] is None else value[name] for name in ("mean", "low", "high")]
        words = interval_words(Interval(*ends), sign=True)
        said.append(f"Weighted less uniform parents, test accuracy over {value['n']} paired seeds: {words}.")
    if determinism := result["determinism"]:
        same = "the same bytes" if determinism["same_bytes"] else "**other bytes**"
        cost = determinism["deterministic_over_free"]
        said.append(f"Two runs with deterministic kernels left {same}; they take {cost:.2f} times as long as without.")
    if full := result["full"]:
        ours = statistics.median(full["ours"]["seconds"])
        ratio = full.get("pytorch_over_ours")
        rival = f"{ratio:.2f} times as long in PyTorch" if ratio else "PyTorch is not measured"
        said.append(f"The networks of the *full* benchmark take {ours:.0f} s here, {rival}.")
    for run in result["runs"]["ours"]:
        if run["final_share_of_matrix_rate"] is not None:
            share = 100 * run["final_share_of_matrix_rate"]
            images = f"{run['final_images_per_second']:,.0f} images a second"
            said.append(f"Final training of our settings: {images}, {share:.0f} % of the rate of a matrix product.")
    if result["not_measured"]:
        said.append(f"Not measured yet: {', '.join(one['piece'] for one in result['not_measured'])}.")
    return ["", *said] if said else []
