"""The strategies on a little of CIFAR-10, for a CPU: 3,000 images, channels up to 32, 32 epochs for each search.

python -m vlga_jax.compare --config=experiments/compare_cifar10_small.py --seeds=5 --workdir=runs/compare_small \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import compare_digits, default

STRATEGIES = ("vlga", "random_search", "classical", "large_scale", "aging", "ant_colony", "hill_climbing")


def get_config() -> ConfigDict:
    """Returns the comparison."""
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.num_seeds = 5
    config.compare.budget_epochs = 32
    config.base = little(num_train_examples=3000)
    config.base.space.kernels = (1, 3)
    config.base.fitness.epochs = 2
    config.base.final.epochs = 6
    every = compare_digits.strategies(population_size=6, num_generations=2)
    config.strategies = ConfigDict({name: every[name] for name in STRATEGIES})
    return config


def little(num_train_examples: int) -> ConfigDict:
    """Returns what runs share on so many examples of CIFAR-10, a fifth of them held out, in narrow networks."""
    config = compare_digits.base(default.get_config())
    config.data.num_train_examples = num_train_examples
    config.data.validation_fraction = 0.2
    config.space.channels = (8, 16, 32)
    config.fitness.batch_size = 64
    config.final.batch_size = 64
    return config
