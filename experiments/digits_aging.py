"""Handwritten digits by regularized (aging) evolution: 36 networks of four convolutions, trained as in `digits.py`.

python main.py --config=experiments/digits_aging.py --workdir=runs/digits_aging
"""

from ml_collections import ConfigDict

from experiments import default, digits


def get_config() -> ConfigDict:
    """Returns the digits experiment with another strategy."""
    config = digits.get_config()
    config.search = default.aging()
    config.search.num_convolutions = 4
    config.search.population_size = 12
    config.search.sample_size = 4
    config.search.num_children = 3
    config.search.num_cycles = 8
    return config
