"""The headline table and everything behind it, from what the pieces left."""

import datetime
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.flops import training_flops
from benchmarks.headline.pieces import MATRIX_RATE, Piece
from benchmarks.headline.rows import DETERMINISM, ROWS, Row
from benchmarks.headline.state import State
from vlga_jax.network.spec import from_json
from vlga_jax.run.history import write_atomically
from vlga_jax.run.report.records import interval_words
from vlga_jax.run.report.statistics import Interval, bootstrap_mean, paired

_HEADER = ("", "seeds", "networks", "best fitness", "test accuracy", "mirrored, too", "minutes", "published, or aim")
_NOTE = (
    "Minutes are those of the whole process: start, data, compiling, search, final training and test; of several seeds "
    "the median, of several calls the sum. Accuracies of several seeds are means with 95 % bootstrap intervals. "
    "Fitness is validation accuracy; 'mirrored, too' is a second reading of the test: each image and its mirror image "
    "together. On a GPU all runs have activations in bfloat16."
)


_SMALL = "**Cut down, to try the script: these accuracies and times mean nothing.**"


def write_report(
    state: State, pieces: Sequence[Piece], workdir: Path, *, command: str, pytorch: bool
) -> dict[str, Any]:
    """Returns what was measured so far, written to WORKDIR/headline.json, and prints its table.

    Args:
      state: of the pieces.
      pieces: all of them.
      workdir: where they lie.
      command: that made them.
      pytorch: whether there is one to compare with.
    """
    done = {piece.name: piece for piece in pieces if state.is_done(piece)}
    whole = {piece.done for piece in done.values()}  # what stands on another piece does not count without that
    done = {name: piece for name, piece in done.items() if piece.after is None or piece.after in whole}
    rate = float(done[MATRIX_RATE].done.read_text()) if MATRIX_RATE in done else None
    runs = {
        row.name: [_record(state, row, piece, rate) for piece in done.values() if piece.row == row.name] for row in ROWS
    }
    missing = [{"piece": piece.name, "command": command} for piece in pieces if piece.name not in done]
    if not pytorch:
        missing.append({"piece": "full-pytorch", "command": f"VLGA_PEER_PYTORCH=PYTHON {command}"})
    result = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        **state.settings,
        "machines": _machines(state, done),
        "matrix_gflops": None if rate is None else round(rate / 1e9, 1),
        "complete": not missing,
        "runs": runs,
        "weighted_less_uniform": _weighted_less_uniform(runs),
        "determinism": _determinism(done),
        "full": _full(state, done),
        "not_measured": missing,
    }
    result["table"] = _table(result)
    write_atomically(workdir / "headline.json", json.dumps(result, indent=1) + "\n")
    print(f"\n{result['table']}", flush=True)
    return result


def _machines(state: State, done: Iterable[str]) -> list[dict[str, Any]]:
    """The different kinds that pieces ran on: hosts may differ where the GPU does not, and one's memory may grow."""
    every = (one for name in done for one in state.machines(name))
    return list({(one["processor"], one["cores"]): one for one in every}.values())


def _record(state: State, row: Row, piece: Piece, rate: float | None) -> dict[str, Any]:
    directory = piece.done.parent
    result, timing = _read(directory / "result.json"), _read(piece.done)
    seed = int(piece.name.rpartition("-")[2])
    seconds, speed = state.seconds(piece.name), timing["final_images_per_second"]
    if row.known_from:
        of_search = f"{row.known_from}-{seed}"
        seconds += _search_seconds(state, of_search, directory.parent / of_search)
    flops = training_flops(from_json(result["architecture"]["network"]))
    return {
        "seed": seed,
        "command": f"python main.py {' '.join(piece.identity[:-1])}",
        "seconds": seconds,
        "calls": state.calls(piece.name),
        **{name: result[name] for name in ("num_evaluations", "best_fitness", "test_accuracy")},
        "test_accuracy_with_flip": result["final"].get("test_accuracy_with_flip"),
        "final_epochs": result["final"]["num_epochs"],
        "final_failure": result["final"].get("failure"),
        "num_parameters": result["num_parameters"],
        "num_flops": result["num_flops"],
        "final_images_per_second": speed,
        "final_share_of_matrix_rate": flops * speed / rate if speed and rate else None,
        **{name: timing[name] for name in ("train_seconds", "compile_seconds")},
    }


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _search_seconds(state: State, name: str, directory: Path) -> float:
    """What a run took until its final training began; if that was too short to be seen, less the last call's part."""
    searched_after = state.searched_after(name)
    if searched_after is not None:
        return searched_after
    timing = _read(directory / "timing.json")
    return state.seconds(name) - (timing["wall_seconds"] - timing["search_seconds"])


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


def _determinism(done: Mapping[str, Piece]) -> dict[str, Any] | None:
    """Whether two runs with deterministic kernels left the same bytes, and what those kernels cost."""
    pieces = {name: done.get(f"{name}-0") for name in DETERMINISM}
    directories = {name: piece.done.parent for name, piece in pieces.items() if piece is not None}
    if len(directories) < len(pieces):
        return None
    fixed = [directories[name] for name in ("fixed_a", "fixed_b")]
    left = [[(each / file).read_bytes() for file in ("history.csv", "best/weights.npz")] for each in fixed]
    timings = {name: _read(each / "timing.json") for name, each in directories.items()}
    spent = {
        what: {name: timing[what] for name, timing in timings.items()} for what in ("train_seconds", "compile_seconds")
    }
    return {
        "same_bytes": left[0] == left[1],
        **spent,
        **{
            f"{what}_over_free": (of["fixed_a"] + of["fixed_b"]) / 2 / of["free"] if of["free"] else None
            for what, of in spent.items()
        },
    }


def _full(state: State, done: Mapping[str, Piece]) -> dict[str, Any] | None:
    """The same networks here and in PyTorch: seconds of whole processes and mean fitness, a round each."""
    found: dict[str, Any] = {}
    for who in ("ours", "pytorch"):
        rounds = sorted(name for name in done if name.startswith(f"full-{who}-"))
        fitness = [[one["fitness"] for one in _read(done[name].done)["individuals"]] for name in rounds]
        found[who] = {
            "seconds": [state.seconds(name) for name in rounds],
            "calls": [state.calls(name) for name in rounds],
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
    warning = [] if result["scale"] == "full" else [_SMALL, ""]
    return "\n".join([*warning, *lines, "", _NOTE, *_sentences(result)]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    calls = max(run["calls"] for run in runs)
    flipped = [run["test_accuracy_with_flip"] for run in runs if run["test_accuracy_with_flip"] is not None]
    return [
        f"{row.title} (`{row.experiment}.py`)",
        str(len(runs)),
        f"{statistics.median(run['num_evaluations'] for run in runs):.0f}",
        interval_words(bootstrap_mean([run["best_fitness"] for run in runs])),
        interval_words(bootstrap_mean([run["test_accuracy"] for run in runs])),
        interval_words(bootstrap_mean(flipped)) if flipped else "",
        f"{statistics.median(run['seconds'] for run in runs) / 60:.1f}" + (f" ({calls} calls)" if calls > 1 else ""),
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
        costs = [
            f"{word} {determinism[f'{what}_over_free']:.2f}"
            for word, what in (("training", "train_seconds"), ("compiling", "compile_seconds"))
            if determinism[f"{what}_over_free"]
        ]
        said.append(f"Two runs with deterministic kernels left {same}; of the time without them: {', '.join(costs)}.")
    if full := result["full"]:
        ours = statistics.median(full["ours"]["seconds"])
        ratio = full.get("pytorch_over_ours")
        rival = f"{ratio:.2f} times as long in PyTorch, which may take any" if ratio else "PyTorch is not measured"
        said.append(f"The networks of the *full* benchmark take {ours:.0f} s here, by deterministic kernels, {rival}.")
        if (calls := max(full["pytorch"]["calls"], default=0)) > 1:
            again = "each one's start counts, and the network that it broke off"
            said.append(f"PyTorch took up to {calls} calls a round: {again}.")
    for run in result["runs"]["ours"]:
        if run["final_share_of_matrix_rate"] is not None:
            share = 100 * run["final_share_of_matrix_rate"]
            images = f"{run['final_images_per_second']:,.0f} images a second"
            said.append(f"Final training of our settings: {images}, {share:.0f} % of the rate of a matrix product.")
    for name, runs in result["runs"].items():
        for run in runs:
            if run["final_failure"]:
                words = f"failed after {run['final_epochs']} epochs ({run['final_failure']}): its best epoch counts"
                said.append(f"**The final training of {name}, seed {run['seed']}, {words}.**")
    if len(result["machines"]) > 1:
        said.append(f"Measured on {len(result['machines'])} kinds of host with that GPU: their seconds may differ.")
    if result["not_measured"]:
        said.append(f"Not measured yet: {', '.join(one['piece'] for one in result['not_measured'])}.")
    return ["", *said] if said else []
