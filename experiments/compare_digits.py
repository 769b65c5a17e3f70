"""Every search strategy on handwritten digits at an equal budget: 60 epochs, which is 20 networks of three epochs.

python -m vlga_jax.compare --config=experiments/compare_digits.py --seeds=20 --workdir=runs/compare_digits
"""

from ml_collections import ConfigDict

from experiments import default, digits


def get_config() -> ConfigDict:
    """Returns the comparison: what all runs share in `base`, what a strategy adds to it by its name in `strategies`."""
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.budget_epochs = 60
    config.compare.crossovers = ("vlga_report", "vlga_report_baseline")
    config.base = small(digits.get_config())
    config.strategies = strategies(population_size=6, num_generations=2)
    return config


def small(config: ConfigDict) -> ConfigDict:
    """Returns the digits in a space of few programs: on so little data compiling takes longer than training."""
    config = base(config)
    config.space.activations = ("relu",)
    config.space.channels = (8, 16)
    config.space.kernels = (1, 3)
    config.space.include_skip = (False,)
    config.fitness.epochs = 3
    config.final.epochs = 15
    return config


def base(config: ConfigDict) -> ConfigDict:
    """Returns an experiment without what each strategy, seed and budget says for itself."""
    for group in ("search", "seed", "budget"):
        del config[group]
    config.tracking.progress = "none"
    return config


def strategies(population_size: int, num_generations: int) -> ConfigDict:
    """Returns all strategies, each asking for about as many networks at a time; the budget ends them."""
    ours = {
        "population_size": population_size,
        "num_generations": num_generations,
        "num_phases": 50,
        "winner": "best_phase",
    }
    sources = {"num_elites": 0, "parent_temperature": 1.0}
    half = max(1, population_size // 2)
    found = ConfigDict()
    found.vlga = _search(default.vlga(), **ours)
    found.vlga_paper = _search(
        default.vlga(), **ours, **sources, mutation_rate=0.2, crossover="uniform", parent_selection="uniform"
    )
    found.vlga_report = _search(default.vlga(), **ours, **sources, crossover="single_point")
    found.vlga_report_baseline = _search(
        default.vlga(), **ours, **sources, crossover="single_point", parent_selection="uniform"
    )
    found.vlga_rungs = _search(default.vlga(), **ours)
    found.vlga_rungs.stopping = {"rungs": (1,)}
    found.vlga_reference = _search(default.vlga(), **ours)
    found.vlga_reference.stopping = {"reference_quantile": 0.5}
    found.vlga_from_scratch = _search(default.vlga(), **ours, weight_transfer=False)
    found.random_search = _search(default.random_search(), population_size=population_size, num_generations=1000)
    found.classical = _search(default.classical(), population_size=population_size, num_generations=1000)
    found.aging = _search(
        default.aging(), population_size=2 * population_size, num_children=half, sample_size=half + 1, num_cycles=1000
    )
    found.large_scale = _search(
        default.large_scale(), population_size=2 * population_size, num_children=half, num_cycles=1000
    )
    found.large_scale.space = {"strides": (1, 2), "first_block_has_b": False}
    found.ant_colony = _search(default.ant_colony(), num_ants=population_size, num_iterations=1000)
    found.hill_climbing = _search(default.hill_climbing(), num_neighbours=half, num_steps=1000)
    return found


def _search(search: ConfigDict, **changes: object) -> ConfigDict:
    """A strategy's own part of an experiment."""
    search.update(changes)
    return ConfigDict({"search": search})
