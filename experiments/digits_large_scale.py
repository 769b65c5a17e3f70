"""Handwritten digits by large-scale evolution: 36 networks of up to six convolutions, trained as in `digits.py`.

python main.py --config=experiments/digits_large_scale.py --workdir=runs/digits_large_scale
"""

from ml_collections import ConfigDict

from experiments import default, digits


def get_config() -> ConfigDict:
    """Returns the digits experiment with another strategy, whose blocks are single convolutions with strides."""
    config = digits.get_config()
    config.search = default.large_scale()
    config.search.population_size = 12
    config.search.num_children = 3
    config.search.num_cycles = 8
    config.search.max_convolutions = 6
    config.space.strides = (1, 2)
    config.space.first_block_has_b = False
    return config
