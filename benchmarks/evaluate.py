"""Evaluates exactly the individuals of a file with this project, and says what each of them took.

    python -m benchmarks.evaluate --chromosomes=FILE.json --workload=shallow --json=OUT.json

FILE holds a list of phases, each a list of individuals, each a mapping from gene name to value; the best of a phase is
inherited by the next. OUT then holds, for each individual, its phase, fitness, seconds and compile seconds, and totals.
"""

import time

_STARTED = time.perf_counter()

import contextlib  # noqa: E402
import dataclasses  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from absl import flags  # noqa: E402

from benchmarks.command_line import run_command  # noqa: E402
from benchmarks.flops import training_flops  # noqa: E402
from benchmarks.images import choose_images  # noqa: E402
from benchmarks.machine import machine, versions  # noqa: E402
from benchmarks.workloads import WORKLOADS, complete, read_phases  # noqa: E402
from vlga_jax.backend import configure_backend, imports_kept  # noqa: E402
from vlga_jax.checks import output_file  # noqa: E402


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("chromosomes", None, "File of the individuals, JSON.", required=True, flag_values=values)
    flags.DEFINE_enum("workload", None, list(WORKLOADS), "What they train on.", required=True, flag_values=values)
    flags.DEFINE_string("json", None, "File to write.", required=True, flag_values=values)
    about = "Compilation cache: off compiles everything; on uses the user's, or JAX_COMPILATION_CACHE_DIR."
    flags.DEFINE_enum("cache", "off", ["off", "on"], about, flag_values=values)
    about = "Where tfds' CIFAR-10 lies; empty is the usual place beside a checkout, or else random images."
    flags.DEFINE_string("data_dir", "", about, flag_values=values)
    flags.DEFINE_bool(
        "plain", False, "Layers, memory, compiler and garbage collector as JAX has them.", flag_values=values
    )
    about = "Of activations; auto is bfloat16 on a GPU, and float32 on a CPU, as the other frameworks have it there."
    flags.DEFINE_enum("precision", "auto", ["auto", "float32", "bfloat16"], about, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Of the trainings.", lower_bound=0, flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong with the input."""
    return run_command(argv, __doc__, _flags(), _write)


def _write(arguments: flags.FlagValues) -> int:
    out = output_file("--json", arguments.json)
    out.write_text(json.dumps(evaluate(arguments), indent=1) + "\n")
    return 0


def evaluate(arguments: flags.FlagValues) -> dict[str, Any]:
    """Returns what OUT holds."""
    workload = WORKLOADS[arguments.workload]
    phases = read_phases(Path(arguments.chromosomes))
    values = workload.config()
    values.seed = arguments.seed
    values.fitness.precision = arguments.precision
    images = choose_images(values, arguments.data_dir)

    with contextlib.nullcontext() if arguments.plain else imports_kept():
        from benchmarks.given import Given  # imports JAX
        from benchmarks.stopwatch import Stopwatch
        from vlga_jax.run import laboratory
        from vlga_jax.run.laboratory import parse_config

    if arguments.plain:
        values.fitness.layers = "plain"
    config = parse_config(values.to_dict())
    configure_backend(config, keep_memory=not arguments.plain)
    import jax

    if arguments.cache == "off":
        jax.config.update("jax_enable_compilation_cache", False)
    imported = time.perf_counter()
    if arguments.precision == "auto" and jax.default_backend() == "cpu":
        config = dataclasses.replace(config, fitness=dataclasses.replace(config.fitness, precision="float32"))
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as scratch, laboratory.opened(config, Path(scratch), stopwatch) as lab:
        loaded = time.perf_counter()
        strategy = Given(lab.space, complete(phases, lab.space))
        found = lab.search(strategy, stopwatch, Path(scratch) / "history.csv").run(config.seed)
        seconds = lab.executor.seconds
    total = time.perf_counter() - _STARTED
    training_images = config.fitness.epochs * workload.num_train
    individuals = []
    for row in sorted(found.rows, key=lambda row: (row.phase, row.individual)):
        evaluation, request = found.evaluations[row.network], found.requests[row.network]
        flops = training_flops(request.network.suffix(request.num_inherited))
        individuals.append(
            {
                "phase": row.phase,
                "individual": row.individual,
                "fitness": row.fitness,
                "status": row.status,
                "seconds": stopwatch.seconds[row.phase, row.individual],
                "train_seconds": evaluation.train_seconds,
                "compile_seconds": evaluation.compile_seconds,
                "train_flops": flops * training_images,
            }
        )
    return {
        "workload": workload.name,
        "images": images,
        "cache": arguments.cache,
        "precision": config.fitness.recipe().precision,
        "individuals": individuals,
        "total_seconds": total,
        "import_seconds": imported - _STARTED,
        "data_seconds": loaded - imported,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "other_seconds": total - sum(seconds.values()),
        "compile_seconds": found.compile_seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device_peak_bytes": _device_peak_bytes(),
        "machine": machine(),
        "versions": versions(),
    }


def _device_peak_bytes() -> int:
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
