"""Handwritten digits by ant colony search: 36 networks of at most three blocks, trained as in `digits.py`.

python main.py --config=experiments/digits_ant_colony.py --workdir=runs/digits_ant_colony
"""

from ml_collections import ConfigDict

from experiments import default, digits


def get_config() -> ConfigDict:
    """Returns the digits experiment with another strategy."""
    config = digits.get_config()
    config.search = default.ant_colony()
    config.search.num_ants = 6
    config.search.max_depth = 3
    return config
