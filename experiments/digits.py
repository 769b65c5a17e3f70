"""Handwritten digits, 1,797 images of 8x8, no download: a whole run in half a minute on two CPU cores.

python main.py --config=experiments/digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from experiments import default


def get_config() -> ConfigDict:
    """Returns a small search: three phases of two generations of six; small images want small batches."""
    config = default.get_config()
    config.data.name = "digits"
    config.data.validation_fraction = 0.2
    config.search.population_size = 6
    config.search.num_generations = 2
    config.search.num_phases = 3
    config.space.channels = (8, 16, 32)
    config.space.kernels = (1, 3, 5)
    config.fitness.epochs = 4
    config.fitness.batch_size = 32
    config.fitness.learning_rate = 3e-3
    config.final.epochs = 30
    config.final.batch_size = 32
    config.final.learning_rate = 3e-3
    return config
