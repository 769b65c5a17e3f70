"""Does fitness-weighted parent choice help? Both recombination rules, uniform parents against two temperatures.

python -m vlga_jax.compare --config=experiments/compare_crossover_digits.py --seeds=20 --workdir=runs/compare_crossover

The report's settings but for the size of the images' space: p=10, g=3, no elites; 150 epochs each.
"""

from ml_collections import ConfigDict

from experiments import compare_digits, default, digits


def get_config() -> ConfigDict:
    """Returns the comparison; the reference is the report code before its modification."""
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.budget_epochs = 150
    config.compare.reference = "single_point_uniform"
    config.base = compare_digits.small(digits.get_config())
    config.strategies = ConfigDict()
    for crossover in ("single_point", "uniform"):
        for parents, temperature in (("uniform", 1.0), ("softmax", 1.0), ("softmax", 0.05)):
            search = default.vlga()
            search.num_elites = 0
            search.num_phases = 50
            search.winner = "best_phase"
            search.crossover, search.parent_selection, search.parent_temperature = crossover, parents, temperature
            name = f"{crossover}_uniform" if parents == "uniform" else f"{crossover}_t{temperature:g}".replace(".", "_")
            config.strategies[name] = ConfigDict({"search": search})
    config.compare.crossovers = ("single_point_uniform", "single_point_t1", "single_point_t0_05")
    return config
