"""What the headline table is made of: runs of `main.py`, and the *full* workload here and in PyTorch."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks.headline.rows import DETERMINISM, REPEATED, ROWS, Row, Scale
from benchmarks.jobs import champions, write_images, write_job
from benchmarks.workloads import WORKLOADS, Workload, complete, draw
from vlga_jax.checks import parse
from vlga_jax.config import read_command_line
from vlga_jax.fitness.evaluation import digest_of
from vlga_jax.genome.space import SpaceConfig, make_search_space
from vlga_jax.run.workdir import told
from vlga_jax.training.data import DataConfig, load_training_data

_ROOT = Path(__file__).resolve().parents[2]
_PEERS = _ROOT / "benchmarks" / "peers"


@dataclasses.dataclass(frozen=True)
class Piece:
    """One process.

    Attributes:
      name: of its directory.
      command: that runs, and runs again to go on.
      identity: what of the command decides its result: no place on this machine, so that another can go on.
      done: a file that is there once it is complete.
      needs_seconds: without a break; 0 if it goes on where it was stopped.
      prepare: called before it starts.
      after: a file of another piece that must be there before.
      owns: files and directories, beside `done`, that are its alone: where it begins from nothing, what another one of
        its name left there is renamed, and what it left itself is removed.
      searched: what appears when a run's search has ended and its final training begins.
    """

    name: str
    command: tuple[str, ...]
    identity: tuple[str, ...]
    done: Path
    needs_seconds: float = 0.0
    prepare: Callable[[], None] = lambda: None
    after: Path | None = None
    owns: tuple[Path, ...] = ()
    searched: Path | None = None

    @property
    def row(self) -> str:
        """Its name without the seed or number at the end."""
        return self.name.rpartition("-")[0]


MATRIX_RATE = "matrix-rate"
_RUN_DONE = "timing.json"  # of a run's directory
_RUN_SEARCHED = "final"  # of a run's directory: checkpoints of the final training, removed at its end
_FIRST = ("ours", "long", *REPEATED)  # of the rows, in this order; then the others


def make_pieces(scale: Scale, workdir: Path, data: ConfigDict, *, pytorch: str) -> list[Piece]:
    """Returns all pieces in the order in which they are worth having, what is judged most first.

    Args:
      scale: how much.
      workdir: of everything.
      data: `name` and `dir` of the images.
      pytorch: its interpreter; empty leaves it out.
    """
    seeds = range(1, scale.seeds)
    rows = {row.name: _run(row, 0, scale, workdir, data) for row in ROWS}
    bench = _Bench(scale, workdir / "full", data)
    runs = [_matrix_rate(workdir, scale.precision), *bench.round(0, pytorch)]
    runs += [_uninterrupted(_run(row, 0, scale, workdir, data), scale) for row in DETERMINISM.values()]
    runs += [*(rows.pop(name) for name in _FIRST), *rows.values()]
    runs += [_run(row, seed, scale, workdir, data) for seed in seeds for row in ROWS if row.name in REPEATED]
    for number in range(1, scale.rounds):
        runs += bench.round(number, pytorch)
    return runs


def find_pytorch(*, gpu: bool) -> str:
    """Returns an interpreter with PyTorch, with CUDA where there is a GPU; empty if there is none. Installs nothing."""
    probe = "import sys, torch; sys.exit(not torch.cuda.is_available())" if gpu else "import torch"
    made = _PEERS / ".venv-pytorch" / "bin" / "python"
    candidates = [os.environ.get("VLGA_PEER_PYTORCH", ""), sys.executable, str(made)]
    for python in filter(None, map(shutil.which, candidates)):
        if subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
            return python
    return ""


def _matrix_rate(workdir: Path, dtype: str) -> Piece:
    done = workdir / MATRIX_RATE
    command = (sys.executable, "-m", "benchmarks.matrix_rate", dtype, str(done))
    return Piece(MATRIX_RATE, command, (dtype,), done, needs_seconds=1.0)


def _run(row: Row, seed: int, scale: Scale, workdir: Path, data: ConfigDict) -> Piece:
    directory = workdir / f"{row.name}-{seed}"
    fields = {
        "seed": str(seed),
        "fitness.precision": scale.precision,
        "final.precision": scale.precision,
        **scale.overrides,
        **scale.experiments.get(row.experiment, {}),
        **row.overrides,
        **scale.rows.get(row.name, {}),
    }
    says = (f"--config=experiments/{row.experiment}.py", *_overrides(fields))
    here = {"data.name": data.name, "data.dir": data.dir, "tracking.progress": "plain"}
    known = workdir / f"{row.known_from}-{seed}" if row.known_from else None
    if known is not None:
        here["fitness.ledger"] = str(known / "ledger.sqlite")
    command = (sys.executable, "main.py", *says, f"--workdir={directory}", *_overrides(here))
    # What the experiment file says counts, too: it may change between two calls.
    config = read_command_line(["main.py", f"--config={_ROOT / says[0].partition('=')[2]}", *says[1:]], Path()).values
    del config["data"]["dir"], config["data"]["cache_dir"], config["tracking"]
    after = known / _RUN_DONE if known is not None else None
    done, searched = directory / _RUN_DONE, directory / _RUN_SEARCHED
    identity = (*says, digest_of(told(config)))
    return Piece(directory.name, command, identity, done, after=after, owns=(directory,), searched=searched)


def _overrides(fields: Mapping[str, str]) -> list[str]:
    return [f"--config.{name}={value}" for name, value in fields.items()]


def _uninterrupted(piece: Piece, scale: Scale) -> Piece:
    """The run without a break, because what it takes is compared."""
    return dataclasses.replace(piece, needs_seconds=scale.determinism_seconds)


class _Bench:
    """The same networks here and in PyTorch, which inherits what was inherited here.

    Here it is one process. PyTorch, which may need longer than a call, goes on after the last network that is complete:
    of several processes each one's start counts, and so does the network that an earlier one did not complete.
    """

    def __init__(self, scale: Scale, directory: Path, data: ConfigDict):
        base = WORKLOADS[scale.workload]
        self._workload: Workload = dataclasses.replace(
            base,
            population_size=scale.population or base.population_size,
            num_phases=scale.phases or base.num_phases,
        )
        self._scale, self._directory, self._data = scale, directory, data

    def round(self, number: int, pytorch: str) -> list[Piece]:
        """Returns the pieces of one round."""
        ours, theirs = self._ours(number), self._directory / f"pytorch-{number}.json"
        chromosomes, job = self._directory / "chromosomes.json", self._directory / "job.json"
        identity = (f"--workload={self._workload.name}", f"--precision={self._scale.precision}")
        command = (
            *(sys.executable, "-m", "benchmarks.evaluate", "--cache=on", *identity),
            *(f"--chromosomes={chromosomes}", f"--json={ours}", f"--data_dir={self._data.dir}"),
        )
        needs = self._scale.bench_seconds
        pieces = [Piece(f"full-ours-{number}", command, identity, ours, needs, self._draw)]
        if pytorch:
            variant = f"--variant={'bf16' if self._scale.precision == 'bfloat16' else 'eager'}"
            kept = theirs.with_suffix(".state")
            files = (f"--job={job}", f"--json={theirs}", f"--state={kept}")
            rival, given = (pytorch, str(_PEERS / "pytorch.py"), variant, *files), (variant, "--state", *identity)
            name, after = f"full-pytorch-{number}", self._ours(0)
            pieces.append(Piece(name, rival, given, theirs, prepare=self._write_job, after=after, owns=(kept,)))
        return pieces

    def _ours(self, number: int) -> Path:
        return self._directory / f"ours-{number}.json"

    def _draw(self) -> None:
        """The chromosomes, drawn once."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / "chromosomes.json"
        if not path.is_file():
            path.write_text(json.dumps(draw(self._workload, self._space(), seed=0)))

    def _write_job(self) -> None:
        images, config = self._directory / "images.npz", self._workload.config()
        config.data.name, config.data.dir = self._data.name, self._data.dir
        if not images.is_file():
            write_images(images, load_training_data(parse(DataConfig, config.data.to_dict())))
        phases = complete(json.loads((self._directory / "chromosomes.json").read_text()), self._space())
        measured: Any = json.loads(self._ours(0).read_text())
        write_job(
            self._directory / "job.json", self._workload, phases, champions(measured["individuals"]), images.absolute()
        )

    def _space(self) -> Any:
        return make_search_space(parse(SpaceConfig, self._workload.config().space.to_dict()))
