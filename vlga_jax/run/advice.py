"""What a run can tell, before anything is trained, of settings that would make its search a poor one."""

import dataclasses

import jax
import numpy as np

from vlga_jax.fitness.status import is_rejection, rejecting_limit
from vlga_jax.run.laboratory import Laboratory
from vlga_jax.training.failure import DIVERGED, NOT_COMPILED, OUT_OF_MEMORY, OUT_OF_TIME
from vlga_jax.training.step import steps_per_epoch

_NUM_SEARCHES = 20  # whose first networks are looked at
_ENOUGH_NETWORKS = 0.25  # of them
_ENOUGH_IMAGES = 100
_ENOUGH_STEPS = {"fitness": 50, "stopping": 20, "final": 200}
_LIMITS = ("max_parameters", "max_flops", "max_block_flops")
_ANEW = "with another --workdir"  # a directory keeps the settings of its search
_CHANGES = {
    DIVERGED: ("learning_rate", f"give a smaller one, {_ANEW}"),
    OUT_OF_TIME: ("max_seconds", f"give more, or 0 for no limit, {_ANEW}"),
    OUT_OF_MEMORY: ("batch_size", f"give a smaller one, or limits on what a network costs, {_ANEW}"),
    NOT_COMPILED: (
        "deterministic",
        f"cuDNN may be too old, or be missing a library; where this is true, false may do, {_ANEW}",
    ),
}
_SIDE = 32  # pixels, what the limits of `experiments/cifar10.py` and those built on it are for


def advice(lab: Laboratory) -> list[str]:
    """Returns a line for each thing that a user may want to change; none where all is well.

    Args:
      lab: of the search.
    """
    told = (few_validation_images(lab), few_steps(lab), tight_limits(lab))
    return [line for line in told if line]


def few_validation_images(lab: Laboratory) -> str:
    """Returns a line on what to do if fitness is the accuracy on fewer than a hundred images, else nothing."""
    number = len(lab.data.validation_labels)
    if number >= _ENOUGH_IMAGES:
        return ""
    steps = f"only {number} images validate, so that fitness moves in steps of {1 / number:.3f}"
    return f"{steps} and hardly tells networks apart; give more images, or a larger config.data.validation_fraction"


def few_steps(lab: Laboratory) -> str:
    """Returns a line on what to do where a training is over after so few steps that it hardly begins, else nothing.

    A fitness may be over at its first rung, a final training once its patience is.
    """
    fitness, final, rungs = lab.config.fitness, lab.config.final, lab.config.stopping.rungs
    in_fitness = steps_per_epoch(len(lab.fitness_data.train_labels), fitness.batch_size)
    num_final = len(lab.data.train_labels) + final.use_all_data * len(lab.data.validation_labels)
    in_final = steps_per_epoch(num_final, final.batch_size)
    lengths: list[tuple[str, object, int]] = [("fitness.epochs", fitness.epochs, fitness.epochs * in_fitness)]
    if rungs:
        lengths.append(("stopping.rungs", ",".join(map(str, rungs)), rungs[0] * in_fitness))
    lengths.append(("final.epochs", final.epochs, final.epochs * in_final))
    if 0 < final.patience < final.epochs and not final.use_all_data:
        lengths.append(("final.patience", final.patience, final.patience * in_final))
    few = [
        f"config.{name}={written} is only {steps}"
        for name, written, steps in lengths
        if steps < _ENOUGH_STEPS[name.partition(".")[0]]
    ]
    if not few:
        return ""
    return f"few training steps: {', '.join(few)}; if accuracies stay low give more epochs, or a smaller batch_size"


def what_to_change(lab: Laboratory, status: str) -> tuple[str, str]:
    """Returns a field of `fitness`, and what to do about it, where all networks have come to nothing.

    Args:
      lab: of the search.
      status: what became of most of them.
    """
    if is_rejection(status):
        return rejecting_limit(status), tight_limits(lab) or f"raise it, or narrow the choices of config.space, {_ANEW}"
    return _CHANGES[status]


def share_within_limits(lab: Laboratory) -> float:
    """Returns which share of the networks that such a search begins with cost no more than `fitness.max_*` allow."""
    strategy = lab.config.search.make(lab.space)
    begun = [strategy.ask(strategy.init(jax.random.key(seed))) for seed in range(_NUM_SEARCHES)]
    within = [lab.request(proposal, None).rejection() is None for proposals in begun for proposal in proposals]
    return float(np.mean(within))


def tight_limits(lab: Laboratory) -> str:
    """Returns a line on what to do if less than a quarter of the first networks are within the limits, else nothing.

    The usual reason is images larger than those that an experiment was written for.
    """
    config = lab.config
    limits = {name: value for name in _LIMITS if (value := getattr(config.fitness, name))}
    if not limits or (share := share_within_limits(lab)) >= _ENOUGH_NETWORKS:
        return ""
    height, width = lab.data.train_images.shape[1:3]
    stated = " and ".join(f"fitness.{name}={value}" for name, value in limits.items())
    line = f"only {share:.0%} of the networks that a search begins with at {height}x{width} pixels are within {stated}"
    factor = height * width / _SIDE**2
    larger = {name: round(value * factor) for name, value in limits.items() if name != "max_parameters"}
    like_there = dataclasses.replace(config, fitness=dataclasses.replace(config.fitness, **larger))
    if factor <= 1 or share_within_limits(lab.configured(like_there)) < _ENOUGH_NETWORKS:
        return f"{line}; raise them, or narrow the choices of config.space, {_ANEW}"
    changes = [f"--config.fitness.{name}={value}" for name, value in larger.items()]
    if config.final.widen_to_flops:
        changes.append(f"--config.final.widen_to_flops={round(config.final.widen_to_flops * factor)}")
    return (
        f"{line}; if they are for {_SIDE}x{_SIDE}, as those of cifar10*.py are, start again for the like here, "
        f"{factor:.3g} times the work, {_ANEW} and {' '.join(changes)}"
    )
