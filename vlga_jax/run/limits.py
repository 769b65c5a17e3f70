"""Whether a search's limits on cost leave it something to choose from, asked before anything is trained."""

import numpy as np

from vlga_jax.evolution.strategy import Place, Proposal
from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.run.laboratory import Laboratory

_NUM_BLOCKS = 256
_ENOUGH = 0.25  # of the blocks
_SIDE = 32  # pixels, what the limits of `experiments/cifar10.py` and those built on it are for


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
    if not names or (share := share_within_limits(lab)) >= _ENOUGH:
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
    return f"{line}; if they are for {_SIDE}x{_SIDE}, as those of cifar10.py are, the like here is {flags}"
