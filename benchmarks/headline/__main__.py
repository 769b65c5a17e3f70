"""Measures the headline table: CIFAR-10, whole, on one GPU, in pieces that the next call goes on with.

    python -m benchmarks.headline --workdir=runs/headline

Prints the table; keeps it, and every figure, in WORKDIR/headline.json and, unless it is cut down, in
benchmarks/results/headline-GPU.json. The same command continues until nothing is left.
"""

import json
import sys
from pathlib import Path

from absl import flags

from benchmarks.headline.pieces import SCALES, find_pytorch, make_pieces
from benchmarks.headline.report import write_report
from benchmarks.headline.state import opened
from benchmarks.images import choose_images
from benchmarks.machine import machine
from experiments import default
from vlga_jax.checks import InputError

_RESULTS = Path(__file__).resolve().parents[1] / "results"


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    about = "Of everything; the next call goes on with it. [runs/headline, runs/headline-small]"
    flags.DEFINE_string("workdir", "", about, flag_values=values)
    about = "full, for a GPU; or small: the same pieces cut down, to try the script anywhere."
    flags.DEFINE_enum("scale", "full", list(SCALES), about, flag_values=values)
    about = "That this call may take; 0 is no limit. A piece that is cut short goes on in the next call."
    flags.DEFINE_float("minutes", 8.0, about, lower_bound=0.0, flag_values=values)
    about = "Of CIFAR-10: tfds' own or decoded parts (npz); empty is the usual place beside a checkout."
    flags.DEFINE_string("data_dir", "", about, flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, 1 if a piece failed, 2 after one line that says what was wrong with the input."""
    arguments = _flags()
    if any(argument in ("--help", "-h") for argument in argv[1:]):
        print(__doc__)
        print(arguments.get_help())
        return 0
    try:
        if rest := arguments(argv)[1:]:
            raise InputError("argument", rest[0], "is no flag; --help lists them")
        return _measure(arguments)
    except flags.Error as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(arguments: flags.FlagValues) -> int:
    whole = arguments.scale == "full"
    gpu = str(machine()["gpu"])
    if whole and not gpu:
        raise InputError("--scale", "full", "needs an NVIDIA GPU; give small to try the script without one")
    config = default.get_config()
    config.data.num_train_examples = 10_000
    if choose_images(config, arguments.data_dir) == "random" and whole:
        remedy = "must name CIFAR-10; `python -m vlga_jax.training.data prepare cifar10 --npz` makes it"
        raise InputError("--data_dir", arguments.data_dir, remedy)
    config.data.dir = str(Path(config.data.dir).absolute())
    workdir = Path(arguments.workdir or ("runs/headline" if whole else "runs/headline-small")).absolute()
    scale, pytorch = SCALES[arguments.scale], find_pytorch(gpu=bool(gpu))
    pieces = make_pieces(scale, workdir, config.data, pytorch=pytorch)
    with opened(workdir, arguments.minutes * 60) as state:
        state.run(pieces)
        result = write_report(state, pieces, workdir, scale_name=arguments.scale, pytorch=bool(pytorch))
    if whole:
        path = _RESULTS / f"headline-{gpu.lower().replace(' ', '-')}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to benchmarks/results/{path.name}")
    left = [piece.name for piece in pieces if not state.is_done(piece)]
    words = f"next {left[0]}; the same command goes on" if left else "nothing is left"
    print(f"{len(pieces) - len(left)} of {len(pieces)} pieces done, {words}")
    return 1 if state.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
