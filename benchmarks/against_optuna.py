"""This project against Optuna with PyTorch: equal wall-clock, the same machine, images and final training.

    python -m benchmarks.against_optuna --seeds=5 --workdir=runs/against_optuna

For each seed there are three searches, one after the other, each in a process of its own: `vlga_jax.compare`
with both strategies of `experiments/compare_optuna.py`, then `benchmarks/peers/optuna_pytorch.py`, with
networks of at most as many convolutions. The winners are then trained and tested alike, which the budget does
not count. Every search of ours starts without compiled programs. Repeating the command goes on where it was. It
leaves comparison.md, comparison.csv and figures/ in the workdir; seconds count from the start of a process.
Measure with nothing else on the machine.

Not alike: our process keeps the memory that it frees (`vlga_jax/training/memory.py`), PyTorch gives it back as it does
for its users; our strategies' settings were chosen for this budget with another seed, Optuna's are its own.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.command_line import run_command
from benchmarks.images import choose_images
from benchmarks.jobs import write_images
from experiments import compare_optuna, default
from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluation import without
from vlga_jax.run.comparing import parse_comparison, record_from_json
from vlga_jax.run.history import write_atomically
from vlga_jax.run.laboratory import RunConfig
from vlga_jax.run.report.comparison import write_tables
from vlga_jax.run.report.comparison_figures import write_comparison_figures
from vlga_jax.run.report.records import RunRecord
from vlga_jax.training.data import load_test_data, load_training_data

_FLAGS = flags.FlagValues()
flags.DEFINE_integer("seeds", 5, "How many.", lower_bound=1, flag_values=_FLAGS)
flags.DEFINE_integer("first_seed", 0, "They count from it.", lower_bound=0, flag_values=_FLAGS)
flags.DEFINE_float("seconds", 600.0, "Of each search, from its process's start.", lower_bound=30.0, flag_values=_FLAGS)
flags.DEFINE_string("workdir", "runs/against_optuna", "Directory of everything.", flag_values=_FLAGS)
flags.DEFINE_string("data_dir", "", "Where CIFAR-10 lies; empty is beside a checkout.", flag_values=_FLAGS)

_PEERS = Path(__file__).parent / "peers"
_ROOT = _PEERS.parents[1]
_RIVAL = "optuna_pytorch"
_START_SECONDS = 8.0  # imports, data and evolution, which the budget of this project's evaluations does not see
# Where the peer knows one value only, that of `experiments/default.py`.
_FIXED: Mapping[str, Sequence[str]] = {
    "space": ("strides", "dropout_rates", "first_block_has_b", "head_pool", "whitening"),
    "fitness": (
        *("optimizer", "schedule", "warmup_epochs", "weight_decay", "label_smoothing", "precision"),
        *("max_seconds", "max_parameters", "max_flops", "max_block_flops", "num_train_examples"),
    ),
    "final": ("optimizer", "widen_to_flops", "use_all_data", "cutout", "ema_decay", "clip_norm", "precision"),
}
_ASKED = ("search", "space", "stopping", "fitness", "final")
# Fields, off, that results from before do not say.
_LATER: Mapping[str, Mapping[str, Any]] = {
    "search": {"child_mutation_rate": 0.0},
    "space": {"min_side": 1, "whitening": False},
    "fitness": {"max_block_flops": 0, "num_train_examples": 0},
    "final": {"clip_norm": 0.0, "widen_to_flops": 0},
}
_SHARED_FINAL = (
    *("epochs", "patience", "init", "batch_size", "learning_rate", "schedule", "warmup_epochs"),
    *("weight_decay", "label_smoothing", "flip", "crop_padding"),
)


def main(values: flags.FlagValues) -> int:
    """Measures what is missing and writes the comparison; returns the exit code.

    Raises:
      InputError: the images or the workdir cannot be used, or one of the searches refused its input.
    """
    config = compare_optuna.get_config()
    if choose_images(config.base, values.data_dir) == "random":
        raise InputError("--data_dir", values.data_dir, "CIFAR-10 is not there, and random images cannot be learnt")
    directory = Path(values.workdir)
    directory.mkdir(parents=True, exist_ok=True)
    comparison = parse_comparison(config.to_dict())
    own = [comparison.run_config(name, 0) for name in comparison.strategies]
    images = _write_images(own[0], directory / "images.npz")
    interpreter = _interpreter()
    records = []
    for seed in range(values.first_seed, values.first_seed + values.seeds):
        job = make_job(own, images, seed, values.seconds)
        for name, asked in zip(comparison.strategies, own, strict=True):
            records.append(_ours(directory, name, seed, values.seconds, asked))
        records.append(_optuna(directory, seed, job, interpreter))
        for record in records[-1 - len(own) :]:
            print(f"{record.strategy} seed {seed}: test accuracy {record.test_accuracy:.4f}", flush=True)
    about: dict[str, Any] = {"budget": values.seconds, "unit": "process_seconds", "reference": _RIVAL}
    write_tables(records, directory, **about)
    write_comparison_figures(records, directory / "figures", **about)
    print((directory / "comparison.md").read_text())
    return 0


def _write_images(config: RunConfig, path: Path) -> Path:
    if not path.is_file():
        data, (test_images, test_labels) = load_training_data(config.data), load_test_data(config.data)
        part = path.with_suffix(".part.npz")
        write_images(part, data, test_images=test_images, test_labels=test_labels)
        part.rename(path)
    return path


def _interpreter() -> str:
    made = subprocess.run(
        ["sh", str(_PEERS / "environments.sh"), "optuna"], stdout=subprocess.PIPE, text=True, check=True
    )
    for line in made.stdout.splitlines():
        name, _, python = line.partition(" ")
        if name == "optuna":
            return python
    raise InputError("peer", "optuna", "its environment could not be made; the reason is above")


def _ours(directory: Path, strategy: str, seed: int, seconds: float, config: RunConfig) -> RunRecord:
    """Our record of a seed; a search that was interrupted is measured anew."""
    workdir, out = directory / f"{strategy}-{seed}", directory / f"{strategy}-{seed}.json"
    run = workdir / "runs" / f"{strategy}-{seed}"
    asked = {"budget_seconds": seconds, **asked_of(config)}
    if not out.is_file():
        shutil.rmtree(workdir, ignore_errors=True)
        command = [sys.executable, "-m", "vlga_jax.compare", "--config=experiments/compare_optuna.py"]
        command += [f"--workdir={workdir.absolute()}", "--seeds=1", f"--first_seed={seed}"]
        command += [f"--only={strategy}", f"--config.compare.reference={strategy}"]
        command += [f"--config.compare.budget_seconds={seconds - _START_SECONDS}"]
        command += [
            f"--config.base.data.name={config.data.name}",
            f"--config.base.data.dir={Path(config.data.dir).absolute()}",
        ]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str((workdir / "programs").absolute())}
        started = time.time()
        done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL)
        _require_success("vlga_jax.compare", done)
        searched = (run / "history.csv").stat().st_mtime - started  # its last line is written as the search ends
        record = from_start(record_from_json(json.loads((run / "record.json").read_text())), searched)
        write_atomically(out, json.dumps({"asked": asked, **dataclasses.asdict(record)}) + "\n")
    written = json.loads(out.read_text())
    require_same(out, written["asked"], asked)
    return record_from_json(written)


def asked_of(config: RunConfig) -> dict[str, Any]:
    """Returns what our results are of, beside the budget."""
    return {group: without(dataclasses.asdict(getattr(config, group)), _LATER.get(group, {})) for group in _ASKED}


def require_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Requires that a result is of what is asked for now, which JSON may have to give back before it looks the same.

    Raises:
      InputError: it is not.
    """
    differing = [name for name, value in json.loads(json.dumps(now)).items() if before.get(name) != value]
    if differing:
        raise InputError("--workdir", str(path), f"was measured with another {', '.join(differing)}; give another")


def from_start(record: RunRecord, search_seconds: float) -> RunRecord:
    """Returns the record with its seconds counted from the start of the process to the end of the search.

    All that evaluations did not take is counted before the first of them.
    """
    before = search_seconds - record.seconds
    return dataclasses.replace(record, seconds=search_seconds, times=tuple(time + before for time in record.times))


def _require_success(program: str, done: subprocess.CompletedProcess[bytes]) -> None:
    if done.returncode:
        raise InputError(program, f"exit code {done.returncode}", "it said why above")


def make_job(ours: Sequence[RunConfig], images: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Returns what Optuna's side is told to do; `benchmarks/peers/README.md` says what it means.

    Args:
      ours: what our strategies are run with, alike but for the search.
      images: file that `write_images` wrote.
      seed: of Optuna's sampler and of all weights.
      seconds: of the search.

    Raises:
      InputError: our side is configured for what the peer cannot do, or not alike.
    """
    config, known = ours[0], default.get_config()
    for group, names in _FIXED.items():
        if any(getattr(other, group) != getattr(config, group) for other in ours):
            raise InputError(f"config.strategies.*.{group}", "", "must be alike for all; set it in config.base")
        for name in names:
            given, theirs = getattr(getattr(config, group), name), known[group][name]
            if given != theirs:
                raise InputError(f"config.base.{group}.{name}", given, f"must be {theirs!r}: the peer knows no other")
    space, fitness = config.space, config.fitness
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
        **({} if space.min_side == 1 else {"min_side": space.min_side}),  # as jobs of before say nothing of it
        "min_convolutions": 2,
        "max_convolutions": compare_optuna.MAX_CONVOLUTIONS,
        "epochs": fitness.epochs,
        "batch_size": fitness.batch_size,
        "learning_rate": fitness.learning_rate,
        "images": str(images.absolute()),
        "seed": seed,
        "budget_seconds": seconds,
        "final": {name: getattr(config.final, name) for name in _SHARED_FINAL},
    }


def _optuna(directory: Path, seed: int, job: dict[str, Any], interpreter: str) -> RunRecord:
    job_path, out = directory / f"optuna-{seed}.job.json", directory / f"optuna-{seed}.json"
    if out.is_file():
        require_same(out, {**json.loads(job_path.read_text()), "images": job["images"]}, job)
    else:
        write_atomically(job_path, json.dumps(job, indent=1) + "\n")
        part = out.with_suffix(".part")
        command = [interpreter, str(_PEERS / "optuna_pytorch.py"), f"--job={job_path}", f"--json={part}"]
        _require_success("optuna_pytorch.py", subprocess.run(command))
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
        strategy=_RIVAL,
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
    sys.exit(run_command(sys.argv, __doc__, _FLAGS, main))
