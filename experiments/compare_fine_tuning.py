"""Whether a phase's best should train on, whole, before it is inherited, at an equal budget, on a little of CIFAR-10.

python -m vlga_jax.compare --config=experiments/compare_fine_tuning.py --seeds=5 --workdir=runs/compare_fine_tuning \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits

RATES = {"never": 0.0, "a_tenth": 0.1, "three_tenths": 0.3}


def get_config() -> ConfigDict:
    """Returns the comparison; a_tenth is fine-tuning at a tenth of the learning rate."""
    config = compare_cifar10_small.get_config()
    config.compare.budget_epochs = 96
    config.compare.reference = "never"
    config.strategies = ConfigDict()
    for name, rate in RATES.items():
        own = compare_digits.strategies(population_size=4, num_generations=2).vlga
        own.search.fine_tuning_rate = rate
        config.strategies[name] = own
    return config
