import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import default
from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.aging import SearchConfig, State, tournament
from vlga_jax.evolution.strategy import Proposal
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SpaceConfig, make_search_space

SPACE = make_search_space(parse(SpaceConfig, default.get_config().space.to_dict()))
SMALL: dict[str, Any] = {
    "strategy": "aging",
    "num_convolutions": 3,
    "population_size": 4,
    "sample_size": 2,
    "num_children": 2,
    "num_cycles": 5,
}


def config_with(**changes: Any) -> SearchConfig:
    return parse(SearchConfig, {**SMALL, **changes}, "config.search")


def worth(proposal: Proposal) -> float:
    return zlib.crc32(proposal.chromosome.genes.tobytes()) / 2**32


def play(config: SearchConfig, seed: int = 0) -> tuple[list[tuple[State, tuple[Proposal, ...]]], State]:
    strategy, key, cycles = config.make(SPACE), jax.random.key(seed), []
    state = strategy.init(key)
    while not strategy.done(state):
        proposals = strategy.ask(state)
        cycles.append((state, proposals))
        state = strategy.tell(key, state, [worth(one) for one in proposals])
    return cycles, state


def test_tournament_wins_with_the_chance_of_a_sample_with_replacement(assert_shares: Any) -> None:
    fitness = jnp.array([0.3, jnp.nan, 0.9, 0.5])
    run = jax.jit(jax.vmap(lambda key: tournament(key, fitness, sample_size=2)))
    winners = np.asarray(run(jax.random.split(jax.random.key(0), 20_000)))
    # The best of two draws of four has rank r (0 worst) with chance (2 r + 1) / 16; NaN is the worst.
    assert_shares(np.bincount(winners, minlength=4), len(winners), np.array([3, 1, 7, 5]) / 16)


def test_tournament_of_everyone_alike_is_a_uniform_choice(assert_shares: Any) -> None:
    run = jax.jit(jax.vmap(lambda key: tournament(key, jnp.ones(3), sample_size=5)))
    winners = np.asarray(run(jax.random.split(jax.random.key(1), 9_000)))
    assert_shares(np.bincount(winners, minlength=3), len(winners), np.full(3, 1 / 3))


def test_run_asks_for_the_population_and_then_for_children() -> None:
    cycles, state = play(config_with())
    assert [len(proposals) for _, proposals in cycles] == [4, 2, 2, 2, 2, 2]
    assert [[one.origin for one in proposals] for _, proposals in cycles[:2]] == [["initial"] * 4, ["mutant"] * 2]
    best = max((one for _, proposals in cycles for one in proposals), key=worth)
    winner = config_with().make(SPACE).winner(state)
    assert (winner.place, winner.fitness) == (best.place, worth(best))


def test_children_differ_from_a_living_parent_in_one_gene() -> None:
    cycles, _ = play(config_with())
    for state, proposals in cycles[1:]:
        for row, one in zip(state.rows, proposals, strict=True):
            assert one.parent_a is not None
            assert (row != state.population[one.parent_a]).sum() == 1
            blocks = to_values(SPACE, one.chromosome)
            assert [block["include_b"] for block in blocks] == [True, False]
            assert len({block["activation"] for block in blocks}) == 1


def test_the_oldest_die_however_fit() -> None:
    cycles, last = play(config_with())
    born = [row for state, _ in cycles for row in state.rows]
    for number, state in enumerate([state for state, _ in cycles[1:]] + [last]):
        np.testing.assert_array_equal(state.population, born[2 * number : 2 * number + 4])


def test_the_winner_may_be_dead() -> None:
    strategy, key = config_with().make(SPACE), jax.random.key(0)
    state = strategy.init(key)
    first = strategy.ask(state)[0]
    while not strategy.done(state):
        proposals = strategy.ask(state)
        state = strategy.tell(key, state, [1.0 if one.place == first.place else 0.1 for one in proposals])
    assert strategy.winner(state).place == first.place
    assert not (state.fitness == 1.0).any()


def test_run_of_the_same_key_is_the_same_and_of_another_is_not() -> None:
    def genes(seed: int) -> list[bytes]:
        return [one.chromosome.genes.tobytes() for _, proposals in play(config_with(), seed)[0] for one in proposals]

    assert genes(0) == genes(0) != genes(1)


def test_config_of_more_children_than_living_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"config\.search\.num_children=5"):
        config_with(num_children=5)
