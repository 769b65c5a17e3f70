"""The command `python -m vlga_jax.training.data`: prepares data sets, without TensorFlow."""

import argparse
import os
import shlex
import sys
from typing import NoReturn

from vlga_jax.checks import InputError
from vlga_jax.training.data.prepare import prepare_tfds, write_npz

_EXAMPLES = """examples:
  python -m vlga_jax.training.data prepare cifar10 --dir=data
  python -m vlga_jax.training.data prepare cifar10 --dir=data --archive=cifar-10-binary.tar.gz
  python -m vlga_jax.training.data prepare cifar10 --dir=data --npz
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Ends with one line, as every other error here does."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong.

    Args:
      argv: what follows the program's name.
    """
    arguments = _parser().parse_args(argv)
    try:
        where = prepare_tfds(arguments.name, arguments.dir, arguments.archive)
        name, data_dir = arguments.name, os.path.abspath(os.path.expanduser(arguments.dir))
        if arguments.npz:
            where = write_npz(arguments.name, arguments.dir, arguments.image_size)
            name, data_dir = "npz", os.path.abspath(where)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.name} lies in {where}; use --config.data.name={name} --config.data.dir={shlex.quote(data_dir)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m vlga_jax.training.data",
        description="Prepares image classification sets of tensorflow-datasets, without TensorFlow.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    prepare = commands.add_parser(
        "prepare",
        help="downloads a set, or takes a local archive, and writes it where --config.data.dir can find it",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prepare.add_argument("name", metavar="NAME", help="of the set, as in cifar10 or emnist/letters")
    prepare.add_argument("--dir", required=True, metavar="PATH", help="where prepared sets are kept")
    prepare.add_argument(
        "--archive", default="", metavar="FILE", help="take this file, or the files in this directory; no download"
    )
    prepare.add_argument("--npz", action="store_true", help="also write plain npz parts, to PATH/NAME-npz")
    prepare.add_argument(
        "--image_size", type=int, default=0, metavar="PIXELS", help="resize npz images to this square; 0 = as stored"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
