"""Whether the search beats random search at equal seconds with the settings of `cifar10_cpu.py`, on little data.

Images are whitened, batch norm is everywhere, maps stop shrinking at 8 pixels, and every winner is widened to 30 MFLOP
and trained from scratch. 75 seconds of compiling and training a search. Strategies must share neither results nor
compiled programs, so each run is a process of its own:

for seed in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do for name in vlga random_search; do
JAX_COMPILATION_CACHE_DIR=$(mktemp -d) python -m vlga_jax.compare --config=experiments/compare_recipe.py --seeds=1 \
  --first_seed=$seed --only=$name --config.compare.reference=$name --config.base.data.dir=DIR --workdir=runs/alone/$name
done; done
mkdir -p runs/recipe && cp -r runs/alone/*/runs runs/recipe &&
python -m vlga_jax.compare --config=experiments/compare_recipe.py --config.base.data.dir=DIR --workdir=runs/recipe
"""

from ml_collections import ConfigDict

from experiments import compare_digits, compare_whitening

_FLOPS = 30_000_000  # an image's forward pass, of every winner


def get_config() -> ConfigDict:
    """Returns the comparison; winners are trained as `compare_whitening.py` trains them."""
    config = compare_whitening.get_config()
    config.compare.num_seeds = 15
    config.compare.budget_epochs = 0
    config.compare.budget_seconds = 75.0
    config.compare.reference = "vlga"
    config.base.space.whitening = True
    config.base.space.batch_norm = (True,)
    config.base.space.channels = (16, 32)
    config.base.fitness.max_flops = _FLOPS
    config.base.fitness.max_block_flops = _FLOPS * 3 // 10
    config.base.final.widen_to_flops = _FLOPS
    every = compare_digits.strategies(population_size=12, num_generations=2)
    config.strategies = ConfigDict({name: every[name] for name in ("vlga", "random_search")})
    return config
