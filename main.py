"""Evolves a convolutional network for your images.

    python main.py --config=experiments/digits.py --workdir=runs/digits

Any field of the experiment can be overridden: --config.search.population_size=20 --config.space.channels=8,16.
Every field, with its unit, stands in experiments/default.py. The same command continues an interrupted run.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from vlga_jax import backend
    from vlga_jax import config as configuration
    from vlga_jax.checks import InputError
except ModuleNotFoundError as missing:
    remedy = "activate the environment (. .venv/bin/activate) or pip install -r requirements.txt"
    print(f"error: {sys.executable} has no {missing.name}; {remedy}", file=sys.stderr)
    sys.exit(2)

_DEFAULT_EXPERIMENT = Path(__file__).parent / "experiments" / "digits.py"


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong with the input."""
    return configuration.run_program(argv, __doc__, _DEFAULT_EXPERIMENT, _prepare)


def _prepare(values: dict[str, Any]) -> Callable[[Path], Any]:
    from vlga_jax.run.laboratory import parse_config  # imports JAX, which takes seconds
    from vlga_jax.run.pipeline import run

    for group, name in (("compare", "comparison"), ("ranking", "ranking")):
        if group in values:
            remedy = f"has the groups of a {name}; run `python -m vlga_jax.{group}` with it"
            raise InputError("config", ", ".join(values), remedy)
    config = parse_config(values)
    backend.configure_backend(config)
    return functools.partial(run, config)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
