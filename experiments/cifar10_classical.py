"""CIFAR-10 by a classical genetic algorithm: networks of three convolutions.

    python main.py --config=experiments/cifar10_classical.py --workdir=runs/classical --config.data.dir=data/tfds

Cost: as many epochs of training as `cifar10.py` spends, then the same final training. Not measured on a GPU yet.
"""

from ml_collections import ConfigDict

from experiments import cifar10, default


def get_config() -> ConfigDict:
    """Returns `cifar10.py` with another search."""
    config = cifar10.get_config()
    config.search = default.classical()
    config.search.num_generations = 1000
    return config
