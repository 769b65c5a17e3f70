"""Handwritten digits by the classical genetic algorithm: 36 individuals of three convolutions, trained as `digits.py`.

python main.py --config=experiments/digits_classical.py --workdir=runs/digits_classical
"""

from ml_collections import ConfigDict

from experiments import default, digits


def get_config() -> ConfigDict:
    """Returns the digits experiment with another strategy."""
    config = digits.get_config()
    config.search = default.classical()
    config.search.population_size = 6
    config.search.num_generations = 6
    return config
