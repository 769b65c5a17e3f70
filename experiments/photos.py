"""A few hundred to a few thousand images of your own, in a folder for each class.

    python main.py --config=experiments/photos.py --workdir=runs/mine --config.data.dir=photos

docs/evidence/settings.md has what it was tried on.
"""

from ml_collections import ConfigDict

from experiments import cifar10_cpu


def get_config() -> ConfigDict:
    """Returns the search of `cifar10_cpu.py` with smaller batches and more epochs: enough training steps a fitness.

    More images are held out, because fitness is the accuracy on them; the final training takes them, too. Bounds on
    cost, whitened images, 40 epochs of final training and the rest are those of `cifar10_cpu.py`.
    """
    config = cifar10_cpu.get_config()
    config.data.name = "folder"
    config.data.image_size = 32
    config.data.validation_fraction = 0.3
    config.fitness.epochs = 10
    config.fitness.batch_size = 16
    config.stopping.rungs = (3,)
    config.final.batch_size = 16
    return config
