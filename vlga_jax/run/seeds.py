"""What programs of several searches have in common: which seeds, and how they call the searches' fields."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vlga_jax.checks import InputError, knob

_FIELD = re.compile(r"\bconfig\.(?!(?:base|compare|json|ranking|strategies)\b)(?P<group>\w+)(?:\.(?P<field>\w+))?")


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


@dataclasses.dataclass(frozen=True)
class Names:
    """What a search's fields are called on the command line of a program of several searches.

    `config.data.dir` of a search is `config.base.data.dir` there, or stands with the strategy whose search it is.

    Attributes:
      strategy: in a comparison, whose search it is; empty is what all searches share.
      own: what the strategy sets itself: fields by their group.
    """

    strategy: str = ""
    own: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def placed(self, message: str) -> str:
        """Returns a message of a search with its fields called so."""
        return _FIELD.sub(self._name, message)

    def _name(self, match: re.Match[str]) -> str:
        group, field = match["group"], match["field"]
        if self.strategy and group == "budget" and field:
            return f"config.compare.budget_{field}"
        of_strategy = self.strategy and (group == "search" or field in self.own.get(group, {}))
        place = f"strategies.{self.strategy}" if of_strategy else "base"
        return ".".join(["config", place, group, *([field] if field else [])])

    @contextlib.contextmanager
    def in_errors(self) -> Iterator[None]:
        """Calls fields so in what is raised within."""
        try:
            yield
        except InputError as error:
            raise InputError(self.placed(error.field), error.value, self.placed(error.remedy)) from error


SHARED = Names()
