"""Which kernels a search should choose from, if winners are widened to equal cost: a little of CIFAR-10, on a CPU.

python -m vlga_jax.compare --config=experiments/compare_kernels.py --seeds=5 --workdir=runs/compare_kernels \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import compare_digits, compare_whitening

KERNELS = {"kernels_1_3": (1, 3), "kernels_3": (3,), "kernels_1_3_5": (1, 3, 5)}


def get_config() -> ConfigDict:
    """Returns the comparison: whitened images and batch norm everywhere, as in `cifar10_cpu.py`, and its widening."""
    config = compare_whitening.get_config()
    config.compare.reference = "kernels_1_3"
    config.base.data.num_train_examples = 10_000
    config.base.space.channels = (16, 32)
    config.base.space.batch_norm = (True,)
    config.base.space.whitening = True
    config.base.final.widen_to_flops = 20_000_000
    config.base.final.epochs = 20
    config.strategies = ConfigDict()
    for name, kernels in KERNELS.items():
        config.strategies[name] = compare_digits.strategies(population_size=4, num_generations=2).vlga
        config.strategies[name].space = ConfigDict({"kernels": kernels})
    return config
