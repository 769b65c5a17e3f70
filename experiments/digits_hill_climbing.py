"""Handwritten digits by hill climbing: 36 networks of four convolutions, trained as in `digits.py`.

python main.py --config=experiments/digits_hill_climbing.py --workdir=runs/digits_hill_climbing
"""

from ml_collections import ConfigDict

from experiments import default, digits


def get_config() -> ConfigDict:
    """Returns the digits experiment with another strategy."""
    config = digits.get_config()
    config.search = default.hill_climbing()
    config.search.num_convolutions = 4
    config.search.num_steps = 7
    return config
