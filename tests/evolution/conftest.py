"""What these tests share: search configurations."""

from collections.abc import Callable
from typing import Any

import pytest

from vlga_jax.checks import parse
from vlga_jax.evolution.vlga import SearchConfig

MakeConfig = Callable[..., SearchConfig]

SEARCH: dict[str, Any] = {
    "strategy": "vlga",
    "population_size": 10,
    "num_generations": 3,
    "num_phases": 3,
    "stop_rule": False,
    "stop_drop": 0.01,
    "num_elites": 0,
    "survival_rate": 0.5,
    "unfit_survival_prob": 0.2,
    "mutation_rate": 0.1,
    "child_mutation_rate": 0.0,
    "crossover": "uniform",
    "parent_selection": "softmax",
    "parent_temperature": 0.1,
    "winner": "last_phase",
    "weight_transfer": True,
    "winner_tolerance": 0.0,
    "fine_tuning_rate": 0.0,
}


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """Makes a checked search configuration from differences to SEARCH."""

    def make(**changes: Any) -> SearchConfig:
        return parse(SearchConfig, {**SEARCH, **changes}, "config.search")

    return make
