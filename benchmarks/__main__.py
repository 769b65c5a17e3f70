"""Measures this project against its peers, prints one table a workload and keeps what was measured.

    python -m benchmarks --workloads=shallow,deep --repeats=3

All rows of a table come from this one run on this one machine, alternating. Two to three hours on two cores. What
was measured is written after every round, so that a run that is stopped leaves the rounds before.
"""

import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.command_line import run_command
from benchmarks.images import choose_images
from benchmarks.jobs import champions, write_images, write_job
from benchmarks.machine import machine, versions
from benchmarks.runners import Runner, measure, runners
from benchmarks.table import table
from benchmarks.workloads import WORKLOADS, Phases, Workload, complete, draw
from vlga_jax.checks import InputError, parse
from vlga_jax.genome.space import SpaceConfig, make_search_space
from vlga_jax.run.history import write_atomically
from vlga_jax.training.data import DataConfig, load_training_data

_RESULTS = Path(__file__).parent / "results"


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    about = "Which of shallow, deep, flat, full."
    flags.DEFINE_list("workloads", ["shallow", "deep", "flat"], about, flag_values=values)
    flags.DEFINE_integer("repeats", 3, "Rounds; each runs every row once.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("chromosome_seed", 0, "Of the networks that are drawn.", lower_bound=0, flag_values=values)
    about = "Only rows whose name contains one of these; the first row always runs."
    flags.DEFINE_list("rows", [], about, flag_values=values)
    flags.DEFINE_string("data_dir", "", "As in benchmarks.evaluate.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong with the input."""
    return run_command(argv, __doc__, _flags(), _measure_all)


def _measure_all(values: flags.FlagValues) -> int:
    """Runs every workload asked for; returns the exit code.

    Raises:
      InputError: a flag names what there is not, or the images cannot be used.
    """
    for name in values.workloads:
        if name not in WORKLOADS:
            raise InputError("--workloads", name, f"must be one of {', '.join(WORKLOADS)}")
    for name in values.workloads:
        _measure(WORKLOADS[name], values)
    return 0


def _measure(workload: Workload, values: flags.FlagValues) -> None:
    """Measures a workload; after every round writes and prints what was measured so far."""
    path = _RESULTS / f"{workload.name}-{'gpu' if machine()['gpu'] else 'cpu'}.json"
    where = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name
    for result in run(workload, values):
        write_atomically(path, json.dumps(result, indent=1) + "\n")
        print(f"\n{workload.name}, {result['rounds']} rounds, written to {where}\n\n{result['table']}", flush=True)


def run(workload: Workload, values: flags.FlagValues) -> Iterator[dict[str, Any]]:
    """Yields a workload's measurements after every round: every run of every row so far, and their table."""
    config = workload.config()
    images = choose_images(config, values.data_dir)
    space = make_search_space(parse(SpaceConfig, config.space.to_dict()))
    phases = draw(workload, space, values.chromosome_seed)
    rows = _chosen_rows(workload, values.rows, values.data_dir)
    rate = _matrix_rate()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "chromosomes.json").write_text(json.dumps(phases))
        data = load_training_data(parse(DataConfig, config.data.to_dict()))
        write_images(directory / "images.npz", data)
        for rounds, runs in enumerate(_rounds(rows, workload, complete(phases, space), values.repeats, directory), 1):
            flops = sum(individual["train_flops"] for individual in runs[rows[0].name][0]["individuals"])
            yield {
                "workload": workload.name,
                "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
                "rounds": f"{rounds} of {values.repeats}",
                "date": datetime.date.today().isoformat(),
                "images": images,
                "machine": machine(),
                "matrix_gflops": round(rate / 1e9, 1),
                "versions": versions(),
                "phases": phases,
                "table": table(runs, flops, rate),
                "runs": runs,
            }


def _chosen_rows(workload: Workload, parts: list[str], data_dir: str) -> list[Runner]:
    first, *others = runners(workload.name, data_dir, gpu=bool(machine()["gpu"]))
    for part in parts:
        if not any(part in row.name for row in (first, *others)):
            names = ", ".join(row.name for row in (first, *others))
            raise InputError("--rows", part, f"is part of no row's name: {names}")
    wanted = parts or workload.rivals
    return [first, *[row for row in others if not wanted or any(part in row.name for part in wanted)]]


def _rounds(
    rows: list[Runner], workload: Workload, phases: Phases, repeats: int, directory: Path
) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """After every round, what each row's runs wrote so far; a row that failed is not run again.

    Args:
      rows: the first is this project; peers inherit what its first run inherited, so that their work is the same.
      workload: for its recipe.
      phases: of complete chromosomes.
      repeats: how many rounds.
      directory: holds chromosomes.json and images.npz.
    """
    runs: dict[str, list[dict[str, Any]]] = {row.name: [] for row in rows}
    failed: set[str] = set()
    inherited: list[int] = []
    for round_ in range(repeats):
        for row in [row for row in rows if row.name not in failed]:
            cache = directory / ("peer" if row.peer else "plain" if "plain" in row.name else "ours")
            if row.fresh_cache:
                shutil.rmtree(cache, ignore_errors=True)
                cache.mkdir()
            try:
                measured = measure(row, directory / "job.json", directory / "chromosomes.json", cache)
            except RuntimeError as error:
                if row is rows[0]:
                    raise
                print(error, flush=True)
                failed.add(row.name)
                continue
            runs[row.name].append(measured)
            print(f"{workload.name} round {round_ + 1}: {row.name} {measured['process_seconds']:.1f} s", flush=True)
            if not inherited:
                inherited = champions(measured["individuals"])
                write_job(directory / "job.json", workload, phases, inherited, directory / "images.npz")
            elif not row.peer and champions(measured["individuals"])[:-1] != inherited[:-1]:  # the last have no heirs
                print(f"{row.name} inherits other individuals than the first row: its later phases differ", flush=True)
        yield {name: done for name, done in runs.items() if done}


def _matrix_rate() -> float:
    """In a process of its own, so that none of the runs shares the machine with this one's threads."""
    command = [sys.executable, "-m", "benchmarks.matrix_rate", "bfloat16" if machine()["gpu"] else "float32"]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
