"""What programs of several searches have in common: which seeds, and where the searches' fields stand."""

import dataclasses

from vlga_jax.checks import knob

FLAGS = "config.base"  # on the command line, before the fields that all searches share


@dataclasses.dataclass(frozen=True)
class SeedsConfig:
    """Seeds in a row.

    Attributes:
      num_seeds: how many.
      first_seed: they count from it.
    """

    num_seeds: int = knob(at_least=1)
    first_seed: int = knob(at_least=0)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.num_seeds)
