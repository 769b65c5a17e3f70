"""Handwritten digits by random search: 36 networks of 2 to 6 convolutions, trained as in `digits.py`.

python main.py --config=experiments/digits_random_search.py --workdir=runs/digits_random_search
"""

from ml_collections import ConfigDict

from experiments import default, digits


def get_config() -> ConfigDict:
    """Returns the digits experiment with another strategy."""
    config = digits.get_config()
    config.search = default.random_search()
    config.search.population_size = 6
    config.search.num_generations = 6
    config.search.max_convolutions = 6
    return config
