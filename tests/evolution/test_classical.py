import zlib
from typing import Any

import jax
import numpy as np
import pytest

from experiments import default
from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.classical import SearchConfig, State
from vlga_jax.evolution.strategy import Proposal
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SpaceConfig, make_search_space

SPACE = make_search_space(parse(SpaceConfig, default.get_config().space.to_dict()))
SMALL = default.classical().to_dict() | {"population_size": 6, "num_generations": 4, "mutation_rate": 0.5}


def config_with(**changes: Any) -> SearchConfig:
    return parse(SearchConfig, {**SMALL, **changes}, "config.search")


def worth(proposal: Proposal) -> float:
    return zlib.crc32(proposal.chromosome.genes.tobytes()) / 2**32


def play(seed: int = 0) -> tuple[list[tuple[Proposal, ...]], State]:
    strategy, key, generations = config_with().make(SPACE), jax.random.key(seed), []
    state = strategy.init(key)
    while not strategy.done(state):
        generations.append(strategy.ask(state))
        state = strategy.tell(key, state, [worth(one) for one in generations[-1]])
    return generations, state


def test_run_has_networks_of_three_convolutions_in_generations_of_one_phase() -> None:
    generations, _ = play()
    places = [tuple(one.place) for generation in generations for one in generation]
    assert places == [(0, generation, individual) for generation in range(4) for individual in range(6)]
    for one in (one for generation in generations for one in generation):
        blocks = to_values(SPACE, one.chromosome)
        assert [block["include_b"] for block in blocks] == [True, False]
        assert len({block["activation"] for block in blocks}) == 1
        assert one.inherits is None


def test_offspring_are_what_their_origin_says_of_their_parents() -> None:
    seen = set()
    generations, _ = play()
    for old, new in zip(generations, generations[1:], strict=False):
        for one in new:
            seen.add(one.origin)
            assert one.parent_a is not None
            mother = old[one.parent_a]
            different = (one.chromosome.genes != mother.chromosome.genes).sum(axis=0)
            if one.origin == "survivor":
                assert one.fitness == worth(mother) and not different.any()
            elif one.origin == "mutant":
                assert one.fitness is None and (different > 0).sum() == 1, "of one gene, the activation in both blocks"
            else:
                assert one.parent_b is not None
                father = old[one.parent_b]
                both = (one.chromosome.genes == mother.chromosome.genes) | (
                    one.chromosome.genes == father.chromosome.genes
                )
                assert both.all()
    assert seen == {"survivor", "mutant", "child"}


def test_winner_is_the_first_of_the_best_of_all_generations() -> None:
    generations, state = play()
    best = max((one for generation in generations for one in generation), key=worth)
    winner = config_with().make(SPACE).winner(state)
    assert (winner.place, winner.fitness) == (best.place, worth(best))
    np.testing.assert_array_equal(winner.chromosome.genes, best.chromosome.genes)


def test_run_of_the_same_key_is_the_same_and_of_another_is_not() -> None:
    def genes(seed: int) -> list[bytes]:
        return [one.chromosome.genes.tobytes() for generation in play(seed)[0] for one in generation]

    assert genes(0) == genes(0) != genes(1)


def test_config_of_more_elites_than_individuals_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"config\.search\.num_elites=7"):
        config_with(num_elites=7)
