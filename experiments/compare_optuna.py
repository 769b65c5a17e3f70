"""Against Optuna with PyTorch on a little of CIFAR-10, for a CPU: ten minutes for each search, 4,000 images.

python -m benchmarks.against_optuna --seeds=5 --workdir=runs/against_optuna
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits, default

MAX_CONVOLUTIONS = 10  # of a network, for everyone


def get_config() -> ConfigDict:
    """Returns this project's side of the comparison; `benchmarks/against_optuna.py` makes Optuna's job from it.

    Maps of at least 8 pixels and whitened images, for everyone (`docs/evidence/settings.md`, `training.md`). The
    population is such that five phases take about as long as the budget, by what a search with seed 100 took, which the
    comparison does not use.
    """
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.num_seeds = 5
    config.compare.budget_seconds = 600.0
    config.base = compare_cifar10_small.little(num_train_examples=5000)
    config.base.space.min_side = 8
    config.base.space.whitening = True
    config.base.final.epochs = 20
    vlga = compare_digits.strategies(population_size=40, num_generations=3).vlga
    vlga.search.num_phases = MAX_CONVOLUTIONS // 2
    vlga.search.fine_tuning_rate = 0.3
    config.strategies = ConfigDict({"vlga": vlga})
    return config
