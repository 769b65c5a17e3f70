from typing import Any

import jax
import numpy as np

from experiments import default
from vlga_jax.checks import parse
from vlga_jax.evolution.hill_climbing import HillClimbing, SearchConfig
from vlga_jax.genome.space import SpaceConfig, make_search_space

SPACE = make_search_space(parse(SpaceConfig, default.get_config().space.to_dict()))
SMALL: dict[str, Any] = {"strategy": "hill_climbing", "num_convolutions": 3, "num_neighbours": 3, "num_steps": 2}


def strategy_with(**changes: Any) -> HillClimbing:
    return parse(SearchConfig, {**SMALL, **changes}, "config.search").make(SPACE)


def test_run_climbs_to_the_fittest_neighbour_only_if_it_is_fitter() -> None:
    strategy, key = strategy_with(), jax.random.key(0)
    state = strategy.init(key)
    (start,) = strategy.ask(state)
    assert start.origin == "initial"
    summit = state.rows[0]
    for told in ([0.5], [0.5, 0.4, float("nan")], [0.2, 0.9, 0.9]):
        rows = state.rows
        assert all((row != summit).sum() == (len(rows) > 1) for row in rows)
        state = strategy.tell(key, state, told)
        summit = rows[1] if 0.9 in told else summit
        np.testing.assert_array_equal(state.summit, summit)
    assert strategy.done(state)
    assert strategy.winner(state).fitness == 0.9
    assert tuple(strategy.winner(state).place) == (0, 2, 1), "the first of equals"


def test_run_that_never_succeeds_stays_at_its_start() -> None:
    strategy, key = strategy_with(), jax.random.key(0)
    state = strategy.init(key)
    start = state.rows[0]
    while not strategy.done(state):
        state = strategy.tell(key, state, [float("nan")] * len(state.rows))
        np.testing.assert_array_equal(state.summit, start)
    assert strategy.winner(state).fitness == -np.inf
