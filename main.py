"""Evolves a convolutional network for your images.

    python main.py --config=experiments/digits.py --workdir=runs/digits

Any field of the experiment can be overridden: --config.search.population_size=20 --config.space.channels=8,16.
Every field, with its unit, stands in experiments/default.py. The same command continues an interrupted run.
"""

import datetime
import sys
from pathlib import Path

from vlga_jax import config as configuration
from vlga_jax.checks import InputError

_DEFAULT_EXPERIMENT = Path(__file__).parent / "experiments" / "digits.py"
_HELP = ("--help", "-h", "-help", "--helpfull", "--helpshort")


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong with the input."""
    if any(argument in _HELP for argument in argv[1:]):
        print(__doc__)
        print(configuration.help_text(_DEFAULT_EXPERIMENT))
        return 0
    workdir = None
    try:
        command_line = configuration.read_command_line(argv, _DEFAULT_EXPERIMENT)
        from vlga_jax.run.laboratory import parse_config  # imports JAX, which takes seconds
        from vlga_jax.run.pipeline import run

        config = parse_config(command_line.values)
        started = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        workdir = command_line.workdir or Path("runs") / started
        print(f"workdir: {workdir}", flush=True)
        configuration.configure_backend(config)
        run(config, workdir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; to continue, repeat the command with --workdir={workdir}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
