"""What a run can tell, before anything is trained, of settings that would make its search a poor one."""

import numpy as np

from vlga_jax.evolution.strategy import Place, Proposal
from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.run.laboratory import Laboratory

_NUM_BLOCKS = 256
_ENOUGH_BLOCKS = 0.25  # of them
_ENOUGH_IMAGES = 100
_SIDE = 32  # pixels, what the limits of `experiments/cifar10.py` and those built on it are for


def advice(lab: Laboratory) -> list[str]:
    """Returns a line for each thing that a user may want to change; none where all is well."""
    return [line for line in (few_validation_images(lab), tight_limits(lab)) if line]


def few_validation_images(lab: Laboratory) -> str:
    """Returns a line on what to do if fitness is the accuracy on fewer than a hundred images, else nothing."""
    number = len(lab.data.validation_labels)
    if number >= _ENOUGH_IMAGES:
        return ""
    steps = f"only {number} images validate, so that fitness moves in steps of {1 / number:.3f}"
    return f"{steps} and hardly tells networks apart; give more images, or a larger config.data.validation_fraction"


def share_within_limits(lab: Laboratory) -> float:
    """Returns which share of networks of one block, drawn at random, cost no more than `fitness.max_*` allow."""
    space = lab.space
    drawn = np.random.default_rng(0).integers(space.num_choices, size=(_NUM_BLOCKS, space.num_genes))
    rows = np.where(space.free(0), drawn, 0).astype(np.int32)
    proposals = (Proposal(Place(0, 0, 0), Chromosome(row[None]), "initial") for row in rows)
    return float(np.mean([lab.request(proposal, None).rejection() is None for proposal in proposals]))


def tight_limits(lab: Laboratory) -> str:
    """Returns a line on what to do if less than a quarter of first blocks are within the limits, else nothing.

    The usual reason is images larger than those that an experiment was written for.
    """
    fitness = lab.config.fitness
    names = [name for name in ("max_parameters", "max_flops", "max_block_flops") if getattr(fitness, name)]
    if not names or (share := share_within_limits(lab)) >= _ENOUGH_BLOCKS:
        return ""
    height, width = lab.data.train_images.shape[1:3]
    limits = " and ".join(f"fitness.{name}={getattr(fitness, name)}" for name in names)
    line = f"only {share:.0%} of first blocks at {height}x{width} pixels are within {limits}"
    larger = [(f"fitness.{name}", getattr(fitness, name)) for name in names if name != "max_parameters"]
    if height * width <= _SIDE**2 or not larger:
        return f"{line}; raise them, or narrow the choices of config.space"
    if lab.config.final.widen_to_flops:
        larger.append(("final.widen_to_flops", lab.config.final.widen_to_flops))
    factor = height * width / _SIDE**2
    flags = " ".join(f"--config.{name}={round(limit * factor)}" for name, limit in larger)
    return (
        f"{line}; if they are for {_SIDE}x{_SIDE}, as those of cifar10*.py are, start again for the like here, "
        f"{factor:.3g} times the work, with another --workdir and {flags}"
    )
