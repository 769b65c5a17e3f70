from typing import Any

import jax
import numpy as np
import pytest

from experiments import default
from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.random_search import RandomSearch, SearchConfig, draw
from vlga_jax.evolution.strategy import Proposal
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SpaceConfig, make_search_space

SPACE = make_search_space(parse(SpaceConfig, default.get_config().space.to_dict()))
SMALL: dict[str, Any] = {
    "strategy": "random_search",
    "population_size": 3,
    "num_generations": 2,
    "min_convolutions": 2,
    "max_convolutions": 10,
}


def config_with(**changes: Any) -> SearchConfig:
    return parse(SearchConfig, {**SMALL, **changes}, "config.search")


def test_draw_makes_every_length_as_often(assert_shares: Any) -> None:
    lengths = []
    for seed in range(600):
        blocks = to_values(SPACE, draw(jax.random.key(seed), SPACE, config_with()))
        lengths.append(sum(2 if block["include_b"] else 1 for block in blocks))
    assert set(lengths) == set(range(2, 11))
    assert_shares(np.bincount(lengths)[2:], len(lengths), np.full(9, 1 / 9))


def test_run_asks_for_every_network_once_and_ends_with_the_first_of_the_best() -> None:
    strategy, key = RandomSearch(SPACE, config_with()), jax.random.key(0)
    seen: list[Proposal] = []
    state = strategy.init(key)
    for told in ([0.2, float("nan"), 0.5], [0.5, 0.1, 0.4]):
        assert not strategy.done(state)
        proposals = strategy.ask(state)
        seen += proposals
        state = strategy.tell(key, state, told)
    assert strategy.done(state)
    assert [tuple(one.place) for one in seen] == [(0, generation, i) for generation in (0, 1) for i in range(3)]
    assert {one.origin for one in seen} == {"initial"}
    assert len({one.chromosome.genes.tobytes() for one in seen}) == 6
    winner = strategy.winner(state)
    assert (winner.place, winner.fitness) == (seen[2].place, 0.5)
    assert strategy.champions(state) == (winner,)


def test_run_of_the_same_key_is_the_same_and_of_another_is_not() -> None:
    strategy = RandomSearch(SPACE, config_with())

    def genes(seed: int) -> list[bytes]:
        return [one.chromosome.genes.tobytes() for one in strategy.ask(strategy.init(jax.random.key(seed)))]

    assert genes(0) == genes(0) != genes(1)


def test_config_of_lengths_the_wrong_way_round_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"config\.search\.max_convolutions=3"):
        config_with(min_convolutions=4, max_convolutions=3)
