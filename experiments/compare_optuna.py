"""Against Optuna with PyTorch on a little of CIFAR-10, for a CPU: ten minutes for each search, 4,000 images.

python -m benchmarks.against_optuna --seeds=5 --workdir=runs/against_optuna
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits, default


def get_config() -> ConfigDict:
    """Returns this project's side of the comparison; `benchmarks/against_optuna.py` makes Optuna's job from it.

    Small phases and fine-tuning are what led on 3,000 images (`compare_population.py`, `compare_fine_tuning.py`).
    """
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.num_seeds = 5
    config.compare.budget_seconds = 600.0
    config.base = compare_cifar10_small.little(num_train_examples=5000)
    config.base.final.epochs = 20
    every = compare_digits.strategies(population_size=4, num_generations=2)
    every.vlga.search.fine_tuning_rate = 0.3
    config.strategies = ConfigDict({"vlga": every.vlga})
    return config
