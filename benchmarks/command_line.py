"""What a benchmark's command does with its flags, whatever it measures."""

import sys
from collections.abc import Callable

from absl import flags

from vlga_jax.checks import InputError


def run_command(
    argv: list[str], about: str | None, values: flags.FlagValues, work: Callable[[flags.FlagValues], int]
) -> int:
    """Returns the exit code of `work`, 0 after --help, or 2 after one line that says what was wrong with the input.

    Args:
      argv: program name and arguments.
      about: what --help says before the flags.
      values: the flags, defined and not parsed yet.
      work: is given the parsed flags.
    """
    if any(argument in ("--help", "-h") for argument in argv[1:]):
        print(about)
        print(values.get_help())
        return 0
    try:
        if rest := values(argv)[1:]:
            raise InputError("argument", rest[0], "is no flag; --help lists them")
        return work(values)
    except flags.Error as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    return 2
