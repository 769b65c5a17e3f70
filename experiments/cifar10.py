"""CIFAR-10 with our recommended settings: batch norm everywhere, pools that halve the image, wide final training.

    python main.py --config=experiments/cifar10.py --workdir=runs/cifar10

Cost: up to 5 phases x 3 generations x 10 individuals of three epochs, then up to 60 epochs of the winner. Meant for one
GPU; not measured on a GPU yet. A cut that runs on two CPU cores in minutes stands in README.md.
"""

from ml_collections import ConfigDict

from experiments import default


def get_config() -> ConfigDict:
    """Returns the recommended search: a smaller space than the sources', by judgement, not yet by measurement."""
    config = default.get_config()
    config.space.channels = (32, 64, 128, 256, 512)
    config.space.kernels = (1, 3, 5)
    config.space.batch_norm = (True,)
    config.final.patience = 20
    return config
