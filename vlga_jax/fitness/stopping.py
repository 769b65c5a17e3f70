"""Early stopping of networks within a generation: who trains on, decided for a whole generation at a time.

All of a generation reach an epoch before any is judged there, so decisions depend on accuracies alone, never on clocks
or on the order in which networks train. Who goes on continues where it was: no epoch is trained twice.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vlga_jax.checks import InputError, knob

# More than fitness can differ by, so that whoever went further stands before whoever did not.
_STEP = 2.0


@dataclasses.dataclass(frozen=True)
class StoppingConfig:
    """Options of every strategy; both may be on.

    Attributes:
      rungs: epochs after which only the better half of the generation's new networks goes on (synchronous successive
        halving: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification"); empty is none. Halves are rounded
        up, so one of one and two of three go on: little is saved where a generation has few new networks.
      reference_quantile: of the accuracies of the phase's generation before after the same epoch; a network below it
        stops. Judged after every epoch; 0 is never. A phase's first generation has no reference.
    """

    rungs: tuple[int, ...] = knob(at_least=1, may_be_empty=True)
    reference_quantile: float = knob(at_least=0, at_most=1)

    def stages(self, epochs: int) -> tuple[int, ...]:
        """Returns after which epochs networks are judged, ascending; the last is `epochs`, where nobody stops.

        Raises:
          InputError: a rung is not below `epochs`, or they do not ascend.
        """
        if list(self.rungs) != sorted(self.rungs):
            raise InputError("config.stopping.rungs", self.rungs, "must ascend, as in 1,2")
        if self.rungs and self.rungs[-1] >= epochs:
            raise InputError("config.stopping.rungs", self.rungs, f"must all be below fitness.epochs={epochs}")
        return tuple(range(1, epochs + 1)) if self.reference_quantile > 0 else (*self.rungs, epochs)

    def goes_on(self, epoch: int, accuracies: Mapping[str, float], reference: Sequence[float]) -> list[str]:
        """Returns who trains on after an epoch, the fittest first; the first among equals.

        Args:
          epoch: after which they are judged.
          accuracies: of those who reached it, by digest.
          reference: accuracies of the generation before after the same epoch; may be empty.
        """
        ranked = sorted(accuracies, key=lambda digest: -accuracies[digest])
        if epoch in self.rungs:
            ranked = ranked[: (len(ranked) + 1) // 2]
        if self.reference_quantile > 0 and len(reference):
            threshold = float(np.quantile(np.asarray(reference, np.float64), self.reference_quantile))
            ranked = [digest for digest in ranked if accuracies[digest] >= threshold]
        return ranked


def standing(fitness: float, stages_missed: int) -> float:
    """Returns what a strategy is told of a network that stopped `stages_missed` stages before the last.

    Fitness lies in [0, 1]. A network stands before every one that stopped earlier, whatever their accuracies.
    """
    return fitness - _STEP * stages_missed
