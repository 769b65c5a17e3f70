"""CIFAR-10 as Xiao et al. 2020 (arXiv 2006.12703) searched it: 88.92 % after 24.55 h on one GPU.

    python main.py --config=experiments/cifar10_paper.py --workdir=runs/cifar10_paper --config.data.dir=data/tfds

Cost: 20 individuals x 5 generations a phase, five epochs each, until a phase falls (theirs: 14 phases, so at most 1,400
trainings). Not measured on a GPU yet. The paper does not state optimizer and batch size: the report code's are used.
"""

from ml_collections import ConfigDict

from experiments import default


def get_config() -> ConfigDict:
    """Returns the paper's settings."""
    config = default.get_config()
    config.search.population_size = 20
    config.search.num_generations = 5
    config.search.num_phases = 30
    config.search.stop_rule = True
    config.search.num_elites = 0
    config.search.mutation_rate = 0.2
    config.search.parent_selection = "uniform"
    config.space.activations = ("relu", "tanh", "elu", "selu")
    config.space.head_pool = "max"
    config.fitness.epochs = 5
    return config
