"""What programs of several searches have in common: which seeds, and how they call the searches' fields."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vlga_jax.checks import InputError, knob
from vlga_jax.run.laboratory import RunConfig

_NUM_SEEDS = 2**32
_GROUPS = "|".join(field.name for field in dataclasses.fields(RunConfig))
_IN_TEXT = re.compile(rf"(?<![\w./])config\.(?P<group>{_GROUPS})\b(?:\.(?P<field>\w+))?")
_FIELD = re.compile(r"^config\.(?!(?:base|compare|ranking|strategies)\b)(?P<group>\w+)(?:\.(?P<field>\w+))?$")


@dataclasses.dataclass(frozen=True)
class SeedsConfig:
    """Seeds in a row.

    Attributes:
      num_seeds: how many.
      first_seed: they count from it.
    """

    num_seeds: int = knob(at_least=1)
    first_seed: int = knob(at_least=0, at_most=_NUM_SEEDS - 1)

    def require_room(self, program: str) -> None:
        """Raises `InputError` if the last seed would be no seed any more; `program` is the group of these fields."""
        if self.first_seed + self.num_seeds > _NUM_SEEDS:
            remedy = f"from first_seed={self.first_seed} on there are {_NUM_SEEDS - self.first_seed}; give at most that"
            raise InputError(f"config.{program}.num_seeds", self.num_seeds, remedy)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.num_seeds)


@dataclasses.dataclass(frozen=True)
class Names:
    """What a search's fields are called on the command line of a program of several searches.

    `config.data.dir` of a search is `config.base.data.dir` there, or stands with the strategy whose search it is.

    Attributes:
      program: the group of the program's own fields, compare or ranking.
      strategy: in a comparison, whose search it is; empty is what all searches share.
      own: what the strategy sets itself: fields by their group.
    """

    program: str
    strategy: str = ""
    own: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def placed(self, text: str) -> str:
        """Returns a text of a search with its fields called so."""
        return _IN_TEXT.sub(self._name, text)

    def _name(self, match: re.Match[str]) -> str:
        group, field = match["group"], match["field"]
        if group == "seed":
            return f"config.{self.program}.first_seed"
        if self.strategy and group == "budget" and field:
            return f"config.compare.budget_{field}"
        of_strategy = self.strategy and (group in self.own if group == "search" else field in self.own.get(group, {}))
        place = f"strategies.{self.strategy}" if of_strategy else "base"
        return ".".join(["config", place, group, *([field] if field else [])])

    @contextlib.contextmanager
    def in_errors(self) -> Iterator[None]:
        """Calls fields so in what is raised within."""
        try:
            yield
        except InputError as error:
            field = _FIELD.sub(self._name, error.field)  # of a group, too, that no search has
            raise InputError(field, error.value, self.placed(error.remedy)) from error
