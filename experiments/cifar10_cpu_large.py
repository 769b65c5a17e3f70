"""The whole of CIFAR-10 on a CPU, with networks of twice the operations.

    python main.py --config=experiments/cifar10_cpu_large.py --workdir=runs/cpu-large --config.data.dir=data/tfds

93.34 % in 78 minutes on two cores of an AMD EPYC that multiplies bfloat16, with seed 0, before images were whitened
(`docs/evidence/cifar10.md`); not measured since.
"""

from ml_collections import ConfigDict

from experiments import cifar10_cpu


def get_config() -> ConfigDict:
    """Returns `cifar10_cpu.py` with more channels, twice the operations and 45 epochs of final training."""
    config = cifar10_cpu.get_config()
    config.space.channels = (64, 128, 256)
    config.fitness.max_flops = 420_000_000
    config.fitness.max_block_flops = 120_000_000
    config.final.widen_to_flops = 420_000_000
    config.final.epochs = 45
    return config
