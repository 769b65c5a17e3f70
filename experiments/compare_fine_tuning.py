"""Whether a phase's best should train on, whole, before it is inherited, at an equal budget, on a little of CIFAR-10.

python -m vlga_jax.compare --config=experiments/compare_fine_tuning.py --seeds=5 --workdir=runs/compare_fine_tuning \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, default

RATES = {"never": 0.0, "a_tenth": 0.1, "three_tenths": 0.3}


def get_config() -> ConfigDict:
    """Returns the comparison; a_tenth is fine-tuning at a tenth of the learning rate."""
    config = compare_cifar10_small.get_config()
    config.compare.budget_epochs = 96
    config.compare.reference = "never"
    config.strategies = ConfigDict()
    for name, rate in RATES.items():
        search = default.vlga()
        search.population_size, search.num_generations = 4, 2
        search.num_phases = 50
        search.winner = "best_phase"
        search.fine_tuning_rate = rate
        config.strategies[name] = ConfigDict({"search": search})
    return config
