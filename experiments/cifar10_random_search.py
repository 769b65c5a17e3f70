"""CIFAR-10 by random search: networks of 2 to 10 convolutions.

    python main.py --config=experiments/cifar10_random_search.py --workdir=runs/random --config.data.dir=data/tfds

Cost: as many epochs of training as `cifar10.py` spends, then the same final training. Not measured on a GPU yet.
"""

from ml_collections import ConfigDict

from experiments import cifar10, default


def get_config() -> ConfigDict:
    """Returns `cifar10.py` with another search."""
    config = cifar10.get_config()
    config.search = default.random_search()
    config.search.num_generations = 1000
    return config
