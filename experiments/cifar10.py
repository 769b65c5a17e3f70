"""CIFAR-10 with our settings for a GPU: pools that halve the image, a final training on all images.

    python main.py --config=experiments/cifar10.py --workdir=runs/cifar10 --config.data.dir=data/tfds

Cost: 400 epochs of training for the search, in phases of two generations of 16, of which the better half trains for
all three epochs; then 100 epochs of the fittest, from scratch and on all training images. Meant for one GPU, not
measured there yet: before networks had their present bounds, half of it (200 epochs in generations of 10, and 50 at
the end) reached 90.64 % in 4.8 minutes on an H200, with one seed. A cut that runs on two CPU cores in half a minute
stands in docs/search.md, and `cifar10_cpu.py` is for a CPU.
"""

from ml_collections import ConfigDict

from experiments import default


def get_config() -> ConfigDict:
    """Returns the search.

    Two generations a phase lead on a little of CIFAR-10, within chance, and so do maps of at least 8 pixels
    (`docs/evidence/settings.md`), and the final learning rate (`docs/evidence/training.md`). The winner on the H200
    squeezed its maps into 32 channels after the first block, so channels begin at 64; that and the rest are judgement,
    not yet measured. Fine-tuning is off: at equal seconds its winners, trained from scratch, were no better.

    No network may cost more than 6 GFLOP an image, so that 100 epochs of the largest take some twelve minutes at the
    rate that was reached there, and no block more than a quarter of that: of blocks drawn at random, 24 a phase, the
    costliest two would take 5.7 of the 6 GFLOP and leave later phases little to choose from.

    The winner is widened to 3 GFLOP for its final training, if it is smaller: on two cores winners of equal fitness
    ended at 91.7 to 93.6 %, in part by their size (`docs/evidence/cifar10.md`), and searching small ones is cheap.

    Images are whitened in patches, on the evidence of `compare_whitening.py`: winners are better in all of five seeds.

    Gradients are clipped in the final training, because batch norm is a gene and skips are not normalised: without it
    deep networks without batch norm diverge within two epochs (`tests/training/test_clipping.py`).
    """
    config = default.get_config()
    config.space.channels = (64, 128, 256, 512)
    config.space.kernels = (1, 3, 5)
    config.space.min_side = 8
    config.space.whitening = True
    config.search.population_size = 16
    config.search.num_generations = 2
    config.search.num_phases = 20
    config.search.winner = "best_phase"
    config.budget.epochs = 400
    config.stopping.rungs = (1,)
    config.fitness.max_flops = 6_000_000_000
    config.fitness.max_block_flops = 1_500_000_000
    config.fitness.precision = "auto"
    config.final.precision = "auto"
    config.final.widen_to_flops = 3_000_000_000
    config.final.epochs = 100
    config.final.patience = 0
    config.final.init = "scratch"
    config.final.use_all_data = True
    config.final.batch_size = 512
    config.final.optimizer = "sgd"
    config.final.learning_rate = 0.2
    config.final.warmup_epochs = 5.0
    config.final.weight_decay = 5e-3  # that of 5e-4 inside a momentum of 0.9
    config.final.cutout = 12
    config.final.ema_decay = 0.998
    config.final.clip_norm = 1.0
    config.final.test_flip = True
    return config
