"""What equal seconds are worth on a little of CIFAR-10, where every winner is trained from scratch.

45 seconds of compiling and training a search. Strategies must share neither results nor compiled programs, so each
run is a process of its own:

for seed in 0 1 2 3 4; do for name in vlga fine_tuned random_search aging; do
JAX_COMPILATION_CACHE_DIR=$(mktemp -d) python -m vlga_jax.compare --config=experiments/compare_seconds.py --seeds=1 \
  --first_seed=$seed --only=$name --config.compare.reference=$name --config.base.data.dir=DIR --workdir=runs/alone/$name
done; done
mkdir -p runs/seconds && cp -r runs/alone/*/runs runs/seconds &&
python -m vlga_jax.compare --config=experiments/compare_seconds.py --config.base.data.dir=DIR --workdir=runs/seconds
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits


def get_config() -> ConfigDict:
    """Returns the comparison; fine_tuned is the variable length GA with fine-tuning."""
    config = compare_cifar10_small.get_config()
    config.compare.budget_epochs = 0
    config.compare.budget_seconds = 45.0
    config.base.final.init = "scratch"
    config.base.final.epochs = 12
    every = compare_digits.strategies(population_size=4, num_generations=2)
    config.strategies = ConfigDict({"vlga": every.vlga, "fine_tuned": every.vlga.copy_and_resolve_references()})
    config.strategies.fine_tuned.search.fine_tuning_rate = 0.3
    config.strategies.random_search = every.random_search
    config.strategies.aging = every.aging
    return config
