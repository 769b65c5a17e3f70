"""Whether networks should see whitened patches, asked of a little of CIFAR-10, on a CPU.

python -m vlga_jax.compare --config=experiments/compare_whitening.py --seeds=5 --workdir=runs/compare_whitening \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import compare_cifar10_small, compare_digits


def get_config() -> ConfigDict:
    """Returns the comparison; the winner is trained from scratch with the optimizer of `cifar10.py`."""
    config = compare_cifar10_small.get_config()
    config.compare.budget_epochs = 96
    config.compare.reference = "pixels"
    config.base.space.min_side = 8
    final = config.base.final
    final.init = "scratch"
    final.epochs = 15
    final.batch_size = 128
    final.optimizer = "sgd"
    final.learning_rate = 0.2
    final.weight_decay = 5e-3
    final.clip_norm = 1.0
    config.strategies = ConfigDict()
    for name, whitening in (("pixels", False), ("whitened", True)):
        config.strategies[name] = compare_digits.strategies(population_size=4, num_generations=2).vlga
        config.strategies[name].space = ConfigDict({"whitening": whitening})
    return config
