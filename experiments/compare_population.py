"""How many individuals and generations a phase should have, at an equal budget, on a little of CIFAR-10, for a CPU.

python -m vlga_jax.compare --config=experiments/compare_population.py --seeds=5 --workdir=runs/compare_population \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits

SIZES = ((2, 1), (4, 1), (8, 1), (4, 2), (8, 2), (10, 3))


def get_config() -> ConfigDict:
    """Returns the comparison; p4_g2 is a population of four for two generations."""
    config = compare_cifar10_small.get_config()
    config.compare.budget_epochs = 64
    config.compare.reference = "p10_g3"
    config.strategies = ConfigDict()
    for population_size, num_generations in SIZES:
        every = compare_digits.strategies(population_size, num_generations)
        config.strategies[f"p{population_size}_g{num_generations}"] = every.vlga
    return config
