"""Against Optuna with PyTorch on a little of CIFAR-10, for a CPU: ten minutes for each search, 4,000 images.

python -m benchmarks.against_optuna --seeds=5 --workdir=runs/against_optuna
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits, default

MAX_CONVOLUTIONS = 10  # of a network, for everyone


def get_config() -> ConfigDict:
    """Returns this project's side of the comparison; `benchmarks/against_optuna.py` makes Optuna's job from it.

    Populations and depth were chosen by a few searches with seed 100, which the comparison does not use. Aging
    evolution lost its rung after the comparison's seeds 0 and 1 had been measured with it.
    """
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.num_seeds = 5
    config.compare.budget_seconds = 600.0
    config.base = compare_cifar10_small.little(num_train_examples=5000)
    config.base.final.epochs = 20
    vlga = compare_digits.strategies(population_size=20, num_generations=3).vlga
    vlga.search.num_phases = MAX_CONVOLUTIONS // 2
    vlga.search.fine_tuning_rate = 0.3
    aging = ConfigDict({"search": default.aging()})
    aging.search.num_convolutions = 8
    aging.search.population_size = 12
    aging.search.sample_size = 4
    aging.search.num_children = 4
    aging.search.num_cycles = 1000  # the budget ends it
    config.strategies = ConfigDict({"vlga": vlga, "aging": aging})
    return config
