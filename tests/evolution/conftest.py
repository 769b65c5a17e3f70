"""What these tests share: search configurations, and how far a share of draws may lie from its probability."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from vlga_jax.checks import parse
from vlga_jax.evolution.vlga import SearchConfig

AssertShares = Callable[[ArrayLike, int, ArrayLike], None]
MakeConfig = Callable[..., SearchConfig]

SEARCH: dict[str, Any] = {
    "population_size": 10,
    "num_generations": 3,
    "num_phases": 3,
    "stop_rule": False,
    "stop_drop": 0.01,
    "num_elites": 0,
    "survival_rate": 0.5,
    "unfit_survival_prob": 0.2,
    "mutation_rate": 0.1,
    "crossover": "uniform",
    "parent_selection": "softmax",
    "parent_temperature": 0.1,
    "winner": "last_phase",
}


@pytest.fixture(scope="session")
def assert_shares() -> AssertShares:
    """Asserts that counts out of a number of draws lie within five binomial standard errors of probabilities."""

    def check(counts: ArrayLike, num_draws: int, probabilities: ArrayLike) -> None:
        expected = np.broadcast_to(np.asarray(probabilities, np.float64), np.shape(counts))
        error = np.sqrt(expected * (1 - expected) / num_draws)
        np.testing.assert_array_less(np.abs(np.asarray(counts) / num_draws - expected), 5 * error + 1e-12)

    return check


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """Makes a checked search configuration from differences to SEARCH."""

    def make(**changes: Any) -> SearchConfig:
        return parse(SearchConfig, {**SEARCH, **changes}, "config.search")

    return make
