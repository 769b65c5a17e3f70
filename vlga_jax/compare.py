"""Compares search strategies over many seeds at an equal budget.

    python -m vlga_jax.compare --config=experiments/compare_digits.py --seeds=20 --workdir=runs/compare_digits

--seeds, --first_seed and --only=vlga,aging stand for --config.compare.num_seeds, .first_seed and .only; any other field
can be overridden too, as in --config.base.fitness.epochs=2. The same command continues an interrupted comparison; more
seeds add to it. It leaves comparison.md, comparison.csv and figures/ in the workdir, and each run's history and best
network below runs/.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlga_jax import backend
from vlga_jax import config as configuration

_DEFAULT = Path("experiments") / "compare_digits.py"
_ALIASES = {
    "seeds": "config.compare.num_seeds",
    "first_seed": "config.compare.first_seed",
    "only": "config.compare.only",
}


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong with the input."""
    named = [_unaliased(argument) for argument in argv]
    return configuration.run_program(named, __doc__, _DEFAULT, _prepare, prefix="compare-")


def _prepare(values: dict[str, Any]) -> Callable[[Path], None]:
    from vlga_jax.run.comparing import compare, parse_comparison  # imports JAX, which takes seconds

    comparison = parse_comparison(values)
    backend.configure_backend(comparison.run_config(comparison.first, 0))

    def run(workdir: Path) -> None:
        compare(comparison, workdir)
        print((workdir / "comparison.md").read_text())

    return run


def _unaliased(argument: str) -> str:
    """An argument with a short flag's whole name, as in --seeds=20."""
    if match := re.fullmatch(r"--?(\w+)(=.*)?", argument):
        name, value = match.groups()
        if name in _ALIASES:
            return f"--{_ALIASES[name]}{value or ''}"
    return argument


if __name__ == "__main__":
    sys.exit(main(sys.argv))
