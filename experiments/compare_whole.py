"""Whether maps should stop shrinking, and networks be trained whole, at an equal number of epochs; for a CPU.

python -m vlga_jax.compare --config=experiments/compare_whole.py --seeds=5 --workdir=runs/compare_whole \
  --config.base.data.dir=data/tfds

Seconds would be another comparison: on two cores a whole network's epoch takes several times as long.
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits


def get_config() -> ConfigDict:
    """Returns the comparison; whole networks start from fresh weights, side_8 keeps maps at 8 pixels or more."""
    config = compare_cifar10_small.get_config()
    config.compare.budget_epochs = 96
    config.compare.reference = "frozen"
    config.base.final.init = "scratch"
    config.base.final.epochs = 12
    config.strategies = ConfigDict()
    for name, transfer, min_side in (
        ("frozen", True, 1),
        ("frozen_side_8", True, 8),
        ("whole", False, 1),
        ("whole_side_8", False, 8),
    ):
        own = compare_digits.strategies(population_size=4, num_generations=2).vlga
        own.search.weight_transfer = transfer
        own.space = ConfigDict({"min_side": min_side})
        config.strategies[name] = own
    return config
