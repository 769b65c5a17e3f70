"""Ways to make a generation from the last, at an equal budget, on a little of CIFAR-10, for a CPU.

python -m vlga_jax.compare --config=experiments/compare_breeding.py --seeds=7 --workdir=runs/compare_breeding \
  --config.base.data.dir=data/tfds

At most some sixteen networks a phase are new; those that stay, or equal another, are not trained again, so a way whose
children often equal another gets through more phases.
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits

FEW_PARENTS = {"survival_rate": 1 / 3, "unfit_survival_prob": 0.0, "mutation_rate": 0.0}
WAYS = {
    "half_survive": (12, 2, {}),
    "drawn_only": (16, 1, {}),
    "few_parents": (6, 4, FEW_PARENTS),
    "mutated_children": (6, 4, {**FEW_PARENTS, "child_mutation_rate": 1.0}),
}


def get_config() -> ConfigDict:
    """Returns the comparison.

    half_survive is the way of `default.py`; drawn_only draws all of a phase at random; in few_parents the fittest
    third, as it is, has all the children, and in mutated_children each child has one gene redrawn besides.
    """
    config = compare_cifar10_small.get_config()
    config.compare.budget_epochs = 150
    config.compare.reference = "half_survive"
    config.base.space.min_side = 8
    config.base.final.init = "scratch"
    config.base.final.epochs = 12
    config.strategies = ConfigDict()
    for name, (population_size, num_generations, changes) in WAYS.items():
        own = compare_digits.strategies(population_size, num_generations).vlga
        own.search.update(changes)
        config.strategies[name] = own
    return config
