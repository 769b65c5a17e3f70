"""Measures the headline table: CIFAR-10, whole, on one GPU, in pieces that the next call goes on with.

    python -m benchmarks.headline --workdir=runs/headline

Prints the table; keeps it, and every figure, in WORKDIR/headline.json and, unless it is cut down, in
benchmarks/results/headline-GPU.json. The same command continues until nothing is left.

A copy of WORKDIR goes on elsewhere, on a machine with the same GPU, versions and XLA flags; cache/ and
full/images.npz need not go along. Without a run's weights/ it trains again what its next networks inherit, to the same
bits.
"""

import time

_STARTED = time.monotonic()

import math  # noqa: E402  (imports count, so the clock starts before them)
import shutil  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from absl import flags  # noqa: E402

from benchmarks.command_line import run_command  # noqa: E402
from benchmarks.headline.pieces import Piece, find_pytorch, make_pieces  # noqa: E402
from benchmarks.headline.report import write_report  # noqa: E402
from benchmarks.headline.rows import SCALES  # noqa: E402
from benchmarks.headline.state import State, opened  # noqa: E402
from benchmarks.images import choose_images  # noqa: E402
from benchmarks.machine import machine, versions  # noqa: E402
from experiments import default  # noqa: E402
from vlga_jax.checks import InputError  # noqa: E402

_RESULTS = Path(__file__).resolve().parents[1] / "results"
_LEAST_MINUTES = 2.0


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    about = "Of everything; the next call goes on with it. [runs/headline, runs/headline-small]"
    flags.DEFINE_string("workdir", "", about, flag_values=values)
    about = "full, for a GPU; or small: the same pieces cut down, to try the script anywhere."
    flags.DEFINE_enum("scale", "full", list(SCALES), about, flag_values=values)
    about = "That this call may take, 2 at least; 0 is no limit. A piece that is cut short goes on in the next call."
    flags.DEFINE_float("minutes", 8.0, about, lower_bound=0.0, flag_values=values)
    about = "Of CIFAR-10: tfds' own or decoded parts (npz); empty is the usual place beside a checkout."
    flags.DEFINE_string("data_dir", "", about, flag_values=values)
    about = "Rows or pieces to measure in this call, and what they need, as in ours,full-ours; empty is all."
    flags.DEFINE_list("only", [], about, flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, 1 if a piece failed, 2 after one line that says what was wrong with the input."""
    return run_command(argv, __doc__, _flags(), _measure)


def _measure(arguments: flags.FlagValues) -> int:
    if 0 < arguments.minutes < _LEAST_MINUTES:
        remedy = f"must be at least {_LEAST_MINUTES:g}, or 0 for no limit"
        raise InputError("--minutes", arguments.minutes, remedy)
    whole = arguments.scale == "full"
    gpu = str(machine()["gpu"])
    if whole and not gpu:
        raise InputError("--scale", "full", "needs an NVIDIA GPU; give small to try the script without one")
    config = default.get_config()
    config.data.num_train_examples = 10_000
    images = choose_images(config, arguments.data_dir)
    if images == "random" and whole:
        remedy = "must name CIFAR-10; `python -m vlga_jax.training.data prepare cifar10 --dir=data/tfds --npz` makes it"
        raise InputError("--data_dir", arguments.data_dir, remedy)
    config.data.dir = str(Path(config.data.dir).absolute())
    workdir = Path(arguments.workdir or ("runs/headline" if whole else "runs/headline-small")).absolute()
    pytorch = find_pytorch(gpu=whole)
    pieces = make_pieces(SCALES[arguments.scale], workdir, config.data, pytorch=pytorch)
    chosen = _chosen(pieces, arguments.only)
    deadline = _STARTED + 60 * arguments.minutes if arguments.minutes else math.inf
    with opened(workdir, deadline, _settings(arguments.scale, images, whole=whole)) as state:
        state.run(chosen)
        command = f"make headline SCALE={arguments.scale}"
        write_report(state, pieces, workdir, command=command, pytorch=bool(pytorch))
    if whole:
        path = _RESULTS / f"headline-{gpu.lower().replace(' ', '-')}.json"
        shutil.copyfile(workdir / "headline.json", path)
        print(f"written to benchmarks/results/{path.name}")
    left = [piece for piece in chosen if not state.is_done(piece)]
    print(f"{len(chosen) - len(left)} of {len(chosen)} pieces done; {_what_is_left(left, state, arguments.minutes)}")
    return 1 if state.failed else 0


def _chosen(pieces: list[Piece], only: list[str]) -> list[Piece]:
    """The pieces that are named, by their own names or by their rows', and what those come after."""
    known = sorted({name for piece in pieces for name in (piece.name, piece.row)})
    for wanted in only:
        if wanted not in known:
            raise InputError("--only", wanted, f"is no row or piece; they are {', '.join(known)}")
    named = [piece for piece in pieces if not only or piece.name in only or piece.row in only]
    needed = {piece.after for piece in named}
    return [piece for piece in pieces if piece in named or piece.done in needed]


def _settings(scale: str, images: str, *, whole: bool) -> dict[str, Any]:
    """What all figures of one table have in common."""
    if whole:
        probe = "import jax; print(jax.default_backend())"
        said = subprocess.run([sys.executable, "-c", probe], stdout=subprocess.PIPE, text=True)
        if said.stdout.split()[-1:] != ["gpu"]:
            raise InputError("--scale", "full", "needs JAX with CUDA in this Python; JAX here sees no GPU")
    kind = "random" if images == "random" else "cifar10"
    return {"scale": scale, "images": kind, "gpu": machine()["gpu"], "versions": versions()}


def _what_is_left(left: list[Piece], state: State, minutes: float) -> str:
    if not left:
        return "nothing is left"
    too_long = [piece.name for piece in left if minutes and state.needs(piece) > 60 * minutes]
    if len(too_long) == len(left):
        return f"{', '.join(too_long)} need more minutes without a break than {minutes:g}"
    return f"next {next(piece.name for piece in left if piece.name not in too_long)}; the same command goes on"


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # ends the piece that runs, too
    sys.exit(main(sys.argv))
