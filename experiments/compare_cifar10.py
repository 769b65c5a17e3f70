"""Every search strategy on CIFAR-10, for a GPU: the whole gene ranges, 300 epochs each. Not measured on a GPU yet.

python -m vlga_jax.compare --config=experiments/compare_cifar10.py --seeds=5 --workdir=runs/compare_cifar10 \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import cifar10, compare_digits, default


def get_config() -> ConfigDict:
    """Returns the comparison."""
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.num_seeds = 5
    config.compare.budget_epochs = 300
    config.compare.crossovers = ("vlga_report", "vlga_report_baseline")
    config.base = compare_digits.base(cifar10.get_config())
    config.base.stopping.rungs = ()  # an option of some strategies
    config.strategies = compare_digits.strategies(population_size=10, num_generations=3)
    return config
