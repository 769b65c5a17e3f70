"""What early stopping and weight transfer save: the same search without a budget, with one of them changed.

python -m vlga_jax.compare --config=experiments/compare_savings_digits.py --seeds=20 --workdir=runs/compare_savings
"""

from ml_collections import ConfigDict

from experiments import compare_digits, default, digits

_NO_LIMIT = 10**9


def get_config() -> ConfigDict:
    """Returns the comparison: four phases of three generations of eight, so that epochs and seconds differ."""
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.budget_epochs = _NO_LIMIT
    config.base = compare_digits.small(digits.get_config())
    every = compare_digits.strategies(population_size=8, num_generations=3)
    names = ("vlga", "vlga_rungs", "vlga_reference", "vlga_from_scratch")
    config.strategies = ConfigDict({name: every[name] for name in names})
    for name in names:
        config.strategies[name].search.num_phases = 4
    return config
