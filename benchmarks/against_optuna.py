"""This project against Optuna with PyTorch: equal wall-clock, the same machine, images and final training.

    python -m benchmarks.against_optuna --seeds=5 --workdir=runs/against_optuna

Each seed searches twice, one after the other, each in a process of its own: `vlga_jax.compare` with
`experiments/compare_optuna.py`, then `benchmarks/peers/optuna_pytorch.py` on the same space. Both networks are then
trained and tested alike, which the budget does not count. Repeating the command goes on where it was. It leaves
comparison.md, comparison.csv and figures/ in the workdir. Measure with nothing else on the machine.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.images import choose_images
from benchmarks.jobs import write_images
from experiments import compare_optuna
from vlga_jax.checks import InputError
from vlga_jax.run.comparing import parse_comparison, record_from_json
from vlga_jax.run.laboratory import RunConfig
from vlga_jax.run.report.comparison import RunRecord, write_tables
from vlga_jax.run.report.comparison_figures import write_comparison_figures
from vlga_jax.training.data import load_test_data, load_training_data

_FLAGS = flags.FLAGS
flags.DEFINE_integer("seeds", 5, "How many.", lower_bound=1)
flags.DEFINE_integer("first_seed", 0, "They count from it.", lower_bound=0)
flags.DEFINE_float("seconds", 600.0, "Of each search, from the start of its process.", lower_bound=30.0)
flags.DEFINE_string("workdir", "runs/against_optuna", "Directory of everything.")
flags.DEFINE_string("data_dir", "", "Where tfds' CIFAR-10 lies; empty is the usual place beside a checkout.")

_PEERS = Path(__file__).parent / "peers"
_START_SECONDS = 5.0  # imports, data and evolution, which the budget of this project's evaluations does not see
_MAX_CONVOLUTIONS = 10


def main(argv: list[str]) -> None:
    """Measures what is missing and writes the comparison."""
    del argv
    config = compare_optuna.get_config()
    images = choose_images(config.base, _FLAGS.data_dir)
    if images == "random":
        sys.exit("error: --data_dir: CIFAR-10 is not there, and random images cannot be learnt; give its directory")
    directory = Path(_FLAGS.workdir)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        own = parse_comparison(config.to_dict()).run_config("vlga", 0)
        arrays = _write_images(own, directory / "images.npz")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    interpreter = _interpreter()
    records = []
    for seed in range(_FLAGS.first_seed, _FLAGS.first_seed + _FLAGS.seeds):
        records.append(_ours(directory, seed, config.base.data.dir))
        records.append(_optuna(directory, seed, _job(own, arrays, seed), interpreter))
        for record in records[-2:]:
            print(f"{record.strategy} seed {seed}: test accuracy {record.test_accuracy:.4f}", flush=True)
    about: dict[str, Any] = {"budget": _FLAGS.seconds, "unit": "seconds", "reference": "vlga"}
    write_tables(records, directory, **about)
    write_comparison_figures(records, directory / "figures", **about)
    print((directory / "comparison.md").read_text())


def _write_images(config: RunConfig, path: Path) -> Path:
    if not path.is_file():
        data, (test_images, test_labels) = load_training_data(config.data), load_test_data(config.data)
        write_images(path, data, test_images=test_images, test_labels=test_labels)
    return path


def _interpreter() -> str:
    made = subprocess.run(
        ["sh", str(_PEERS / "environments.sh"), "optuna"], stdout=subprocess.PIPE, text=True, check=True
    )
    for line in made.stdout.splitlines():
        name, _, python = line.partition(" ")
        if name == "optuna":
            return python
    sys.exit("error: the environment of Optuna could not be made; the reason is above")


def _ours(directory: Path, seed: int, data_dir: str) -> RunRecord:
    workdir = directory / f"vlga_jax-{seed}"
    command = [sys.executable, "-m", "vlga_jax.compare", "--config=experiments/compare_optuna.py"]
    command += [f"--workdir={workdir.absolute()}", "--seeds=1", f"--first_seed={seed}"]
    command += [f"--config.compare.budget_seconds={_FLAGS.seconds - _START_SECONDS}"]
    command += [f"--config.base.data.dir={Path(data_dir).absolute()}"] if data_dir else []
    subprocess.run(command, cwd=_PEERS.parents[1], check=True, stdout=subprocess.DEVNULL)
    return record_from_json((workdir / "runs" / f"vlga-{seed}" / "record.json").read_text())


def _job(config: RunConfig, images: Path, seed: int) -> dict[str, Any]:
    space, fitness, final = config.space, config.fitness, config.final
    return {
        "space": {
            "activation": space.activations,
            **{f"{conv}_channels": space.channels for conv in "ab"},
            **{f"{conv}_kernel": space.kernels for conv in "ab"},
            **{f"{conv}_batch_norm": space.batch_norm for conv in "ab"},
            "include_pool": space.include_pool,
            "pool_type": space.pool_types,
            "include_b": space.include_b,
            "include_skip": space.include_skip,
        },
        "pool_stride": space.pool_stride,
        "min_convolutions": 2,
        "max_convolutions": _MAX_CONVOLUTIONS,
        "epochs": fitness.epochs,
        "batch_size": fitness.batch_size,
        "learning_rate": fitness.learning_rate,
        "images": str(images.absolute()),
        "seed": seed,
        "budget_seconds": _FLAGS.seconds,
        "final": {
            name: getattr(final, name)
            for name in (
                *("epochs", "patience", "init", "batch_size", "learning_rate", "schedule", "warmup_epochs"),
                *("weight_decay", "label_smoothing", "flip", "crop_padding"),
            )
        },
    }


def _optuna(directory: Path, seed: int, job: dict[str, Any], interpreter: str) -> RunRecord:
    job_path, out = directory / f"optuna-{seed}.job.json", directory / f"optuna-{seed}.json"
    if not out.is_file():
        job_path.write_text(json.dumps(job, indent=1) + "\n")
        part = out.with_suffix(".part")
        command = [interpreter, str(_PEERS / "optuna_pytorch.py"), f"--job={job_path}", f"--json={part}"]
        subprocess.run(command, check=True)
        part.rename(out)
    return optuna_record(json.loads(out.read_text()), seed)


def optuna_record(result: dict[str, Any], seed: int) -> RunRecord:
    """Returns the record of what `optuna_pytorch.py` wrote."""
    trained, points, times = 0, [], []
    for trial in result["trials"]:
        trained += trial["epochs"]
        if trial["state"] == "complete":
            points.append((float(trained), trial["value"]))
            times.append(trial["at_seconds"])
    return RunRecord(
        strategy="optuna_pytorch",
        seed=seed,
        best_fitness=result["best"]["fitness"],
        test_accuracy=result["test_accuracy"],
        num_parameters=result["best"]["num_parameters"],
        epochs=trained,
        seconds=result["search_seconds"],
        epochs_saved=0,
        points=tuple(points),
        times=tuple(times),
        generations=(),
    )


if __name__ == "__main__":
    app.run(main)
