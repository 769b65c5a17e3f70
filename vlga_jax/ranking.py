"""Asks whether fitness ranks networks as their final training does.

    python -m vlga_jax.ranking --config=experiments/ranking_cifar10.py --workdir=runs/ranking --config.base.data.dir=DIR

Searches, then trains every network that has a fitness, all its blocks and from fresh weights: once for as many epochs
as a fitness takes, and twice to the end, as a winner. Any field can be overridden, as in --config.ranking.num_seeds=3.
The same command continues an interrupted one. It leaves ranking.md, ranking.csv and figures/ in the workdir, and does
not use the test images.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlga_jax import backend
from vlga_jax import config as configuration

_DEFAULT = Path("experiments") / "ranking_cifar10.py"


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong with the input."""
    return configuration.run_program(argv, __doc__, _DEFAULT, _prepare, prefix="ranking-")


def _prepare(values: dict[str, Any]) -> Callable[[Path], None]:
    from vlga_jax.run.ranking import parse_ranking, rank  # imports JAX, which takes seconds

    ranking = parse_ranking(values)
    backend.configure_backend(ranking.run_config(0))

    def run(workdir: Path) -> None:
        rank(ranking, workdir)
        print((workdir / "ranking.md").read_text())

    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv))
