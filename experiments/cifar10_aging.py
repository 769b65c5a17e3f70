"""CIFAR-10 by regularized (aging) evolution: networks of six convolutions.

    python main.py --config=experiments/cifar10_aging.py --workdir=runs/cifar10_aging --config.data.dir=data/tfds

Cost: as many epochs of training as `cifar10.py` spends, then the same final training. Not measured on a GPU yet.
"""

from ml_collections import ConfigDict

from experiments import cifar10, default


def get_config() -> ConfigDict:
    """Returns `cifar10.py` with another search."""
    config = cifar10.get_config()
    config.search = default.aging()
    config.search.num_cycles = 1000
    return config
