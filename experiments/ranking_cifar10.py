"""Whether fitness ranks networks of CIFAR-10 as their final training does, on a little of it, for a CPU.

python -m vlga_jax.ranking --config=experiments/ranking_cifar10.py --workdir=runs/ranking \
  --config.base.data.dir=data/tfds
"""

from ml_collections import ConfigDict

from experiments import cifar10_cpu


def get_config() -> ConfigDict:
    """Returns the ranking: four phases of at most ten drawn blocks a seed, no rungs, ten epochs of final training.

    Fitness as in `cifar10_cpu.py`, on 6,000 images, in blocks of a third of its operations at most. 3,000 images
    validate, so that an accuracy of 0.7 is known to 0.008 (one standard error). Images are not whitened, as when
    the ranking in `docs/evidence/ranking.md` was measured.
    """
    config = ConfigDict()
    config.ranking = ConfigDict({"num_seeds": 2, "first_seed": 0})
    config.base = base = cifar10_cpu.get_config()
    del base.seed
    base.tracking.progress = "none"
    base.data.num_train_examples = 9_000
    base.data.validation_fraction = 1 / 3
    base.search.population_size = 10
    base.search.num_generations = 1
    base.search.num_phases = 4
    base.stopping.rungs = ()
    base.space.channels = (32, 64)
    base.space.whitening = False
    base.fitness.num_train_examples = 0
    base.fitness.max_flops = 0
    base.fitness.max_block_flops = 20_000_000
    base.final.widen_to_flops = 0
    base.final.epochs = 10
    base.final.use_all_data = False
    base.final.batch_size = 128
    base.final.learning_rate = 0.1
    base.final.warmup_epochs = 2.0
    base.final.cutout = 0
    base.final.ema_decay = 0.0
    base.final.test_flip = False
    return config
