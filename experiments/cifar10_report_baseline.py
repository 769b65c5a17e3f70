"""CIFAR-10 as the course report's code searched it before its modification: parents drawn uniformly.

    python main.py --config=experiments/cifar10_report_baseline.py --workdir=runs/baseline --config.data.dir=data/tfds

Cost: as cifar10_report.py.
"""

from ml_collections import ConfigDict

from experiments import cifar10_report


def get_config() -> ConfigDict:
    """Returns the report's baseline."""
    config = cifar10_report.get_config()
    config.search.parent_selection = "uniform"
    return config
