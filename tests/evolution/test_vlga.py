"""The variable length genetic algorithm, whole runs of it, with a fitness that needs no networks."""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pytest

from vlga_jax.checks import parse
from vlga_jax.evolution.strategy import Champion, Proposal
from vlga_jax.evolution.vlga import VLGA, SearchConfig, VLGAState
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SpaceConfig, make_search_space

MakeConfig = Callable[..., SearchConfig]
Fitness = Callable[[Proposal], float]
SPACE = make_search_space(
    parse(
        SpaceConfig,
        {
            "activations": ("relu", "elu", "leaky_relu"),
            "channels": (8, 16, 32),
            "kernels": (1, 3, 5),
            "batch_norm": (True, False),
            "include_pool": (True, False),
            "pool_types": ("max", "average"),
            "include_b": (False, True),
            "include_skip": (True, False),
            "dropout_rates": (0.0,),
            "strides": (1,),
            "first_block_has_b": True,
            "pool_stride": 2,
            "min_side": 1,
            "whitening": False,
            "head_pool": "average",
        },
    )
)
SMALL: dict[str, Any] = {"population_size": 6, "num_elites": 1, "mutation_rate": 0.5}


@dataclasses.dataclass(frozen=True)
class Generation:
    state: VLGAState
    proposals: tuple[Proposal, ...]
    told: list[float]


def some_fitness(proposal: Proposal) -> float:
    """A value in [0, 1) that depends on the genes alone and has more digits than a float32."""
    return zlib.crc32(np.asarray(proposal.chromosome.genes, np.int32).tobytes()) / 2**32


def play(config: SearchConfig, fitness: Fitness = some_fitness, seed: int = 0) -> tuple[list[Generation], VLGAState]:
    """Returns every generation of a run, and the last state; who has a fitness is not evaluated again."""
    strategy, key, generations = VLGA(SPACE, config), jax.random.key(seed), []
    state = strategy.init(key)
    while not strategy.done(state):
        proposals = strategy.ask(state)
        told = [fitness(one) if one.fitness is None else one.fitness for one in proposals]
        generations.append(Generation(state, proposals, told))
        state = strategy.tell(key, state, told)
    return generations, state


@functools.cache
def played(config: SearchConfig, seed: int = 0) -> tuple[list[Generation], VLGAState]:
    return play(config, seed=seed)


def plain(record: Any) -> Any:
    """Returns dataclasses and arrays as values that compare, NaN equal to itself."""
    if dataclasses.is_dataclass(record):
        return {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, (np.ndarray, jax.Array)):
        return plain(np.asarray(record).tolist())
    if isinstance(record, (tuple, list)):
        return [plain(item) for item in record]
    return "nan" if isinstance(record, float) and math.isnan(record) else record


def phase_of(generations: Sequence[Generation], phase: int) -> list[Generation]:
    return [generation for generation in generations if generation.state.phase == phase]


def by_phase(values: Sequence[float]) -> Fitness:
    """Everyone in phase k is worth the k-th value."""
    return lambda proposal: values[proposal.place.phase]


@pytest.fixture(scope="session")
def small(make_config: MakeConfig) -> SearchConfig:
    return make_config(**SMALL)


def test_run_visits_every_place_of_its_phases_and_generations_in_order(small: SearchConfig) -> None:
    generations, state = played(small)
    places = [tuple(one.place) for generation in generations for one in generation.proposals]
    assert places == [(p, g, i) for p in range(3) for g in range(3) for i in range(6)]
    assert len(state.finished) == 3 and state.ended and not state.rejected


def test_first_generation_of_each_phase_is_initial_and_later_ones_are_not(small: SearchConfig) -> None:
    for generation in played(small)[0]:
        origins = {one.origin for one in generation.proposals}
        initial = generation.state.generation == 0
        assert origins == {"initial"} if initial else origins <= {"survivor", "mutant", "child"}


def test_chromosomes_grow_by_a_block_a_phase_and_inherit_the_champions_blocks(small: SearchConfig) -> None:
    generations, state = played(small)
    for phase in range(3):
        champion = state.finished[phase - 1] if phase else None
        for one in (one for generation in phase_of(generations, phase) for one in generation.proposals):
            assert one.chromosome.num_blocks == phase + 1
            assert one.inherits == (champion.place if champion else None)
            if champion:
                np.testing.assert_array_equal(one.chromosome.genes[:-1], champion.chromosome.genes)


def test_champions_are_where_the_best_of_each_phase_first_stood(small: SearchConfig) -> None:
    generations, state = played(small)
    for phase, champion in enumerate(VLGA(SPACE, small).champions(state)):
        seen = [pair for g in phase_of(generations, phase) for pair in zip(g.proposals, g.told, strict=True)]
        best, value = max(seen, key=lambda pair: pair[1])  # the first of equals
        assert (champion.place, champion.fitness) == (best.place, value)
        np.testing.assert_array_equal(champion.chromosome.genes, best.chromosome.genes)


def test_champions_of_an_unfinished_phase_include_its_best_so_far(small: SearchConfig) -> None:
    state = played(small)[0][4].state  # phase 1, generation 1
    champions = VLGA(SPACE, small).champions(state)
    assert [champion.place.phase for champion in champions] == [0, 1]
    assert VLGA(SPACE, small).winner(state) is champions[1]


def test_activation_is_inherited_and_the_first_block_has_both_convolutions(small: SearchConfig) -> None:
    second_convolutions = set()
    for generation in played(small)[0]:
        for one in generation.proposals:
            blocks = to_values(SPACE, one.chromosome)
            assert {block["activation"] for block in blocks} == {blocks[0]["activation"]}
            assert blocks[0]["include_b"] is True
            second_convolutions |= {block["include_b"] for block in blocks[1:]}
    assert second_convolutions == {True, False}


def test_offspring_are_what_their_origin_says_of_their_parents(small: SearchConfig) -> None:
    seen = set()
    for before, after in zip(played(small)[0], played(small)[0][1:], strict=False):
        if after.state.generation == 0:
            continue
        free = SPACE.free(after.state.phase)
        for one in after.proposals:
            seen.add(one.origin)
            assert one.parent_a is not None
            row = one.chromosome.genes[-1]
            mother = before.proposals[one.parent_a].chromosome.genes[-1]
            if one.origin == "child":
                assert one.parent_b not in (None, one.parent_a)
                father = before.proposals[one.parent_b or 0].chromosome.genes[-1]
                assert np.all((row == mother) | (row == father) & free)
            else:
                assert one.parent_b is None
                assert np.sum(row != mother) == (one.origin == "mutant")
                assert not np.any((row != mother) & ~free)
    assert seen == {"survivor", "mutant", "child"}


def test_survivors_and_only_they_keep_their_fitness_to_the_bit(small: SearchConfig) -> None:
    num_survivors = 0
    for before, after in zip(played(small)[0], played(small)[0][1:], strict=False):
        for one in after.proposals:
            assert (one.fitness is not None) == (one.origin == "survivor")
            if one.origin == "survivor":
                assert one.parent_a is not None
                assert one.fitness == before.told[one.parent_a] != float(np.float32(one.fitness))
                num_survivors += 1
    assert num_survivors >= 6


@pytest.mark.parametrize("seed", range(5))
def test_best_fitness_with_an_elite_never_falls_within_a_phase(seed: int, small: SearchConfig) -> None:
    generations, _ = played(small, seed)
    for phase in range(3):
        best = [max(generation.told) for generation in phase_of(generations, phase)]
        assert best == sorted(best)


def test_run_with_the_same_key_is_the_same_and_with_another_differs(small: SearchConfig) -> None:
    first, again, other = played(small), play(small), played(small, 1)
    assert plain(first) == plain(again)
    assert plain(first[0][0].proposals) != plain(other[0][0].proposals)
    assert plain(first[0][1].proposals) != plain(other[0][1].proposals)


def test_told_values_again_lead_to_the_same_states(small: SearchConfig) -> None:
    generations, last = played(small)
    strategy, key = VLGA(SPACE, small), jax.random.key(0)
    state = strategy.init(key)
    for generation in generations:
        assert plain(state) == plain(generation.state)
        state = strategy.tell(key, state, generation.told)
    assert plain(state) == plain(last)


@pytest.mark.parametrize(("changes", "num_equal"), [({"num_phases": 4}, 9), ({"num_generations": 4}, 3)])
def test_run_that_goes_on_longer_begins_with_the_shorter_one(
    changes: dict[str, Any], num_equal: int, small: SearchConfig
) -> None:
    shorter, longer = played(small)[0], played(dataclasses.replace(small, **changes))[0]
    assert len(longer) > len(shorter)
    assert plain([g.proposals for g in longer[:num_equal]]) == plain([g.proposals for g in shorter[:num_equal]])


@pytest.mark.parametrize(
    ("values", "num_played", "rejected"),
    [
        ((0.5, 0.6, 0.589, 0.9), 3, True),  # falls by 0.011
        ((0.5, 0.6, 0.59, 0.6), 4, False),  # by exactly 0.01
        ((0.07, 0.06, 0.06, 0.06), 4, False),  # by exactly 0.01, but for rounding
        ((0.5, 0.6, 0.595, 0.6), 4, False),
        ((0.6, 0.595, 0.585, 0.9), 3, True),  # below the best so far, though not below the phase before
        ((0.6, 0.0, 0.9, 0.9), 2, True),
        ((0.5, 0.5, 0.5, 0.4), 4, True),  # the last phase can be rejected too
    ],
)
def test_stop_rule_ends_the_run_once_a_phase_falls_by_more_than_the_drop(
    values: tuple[float, ...], num_played: int, rejected: bool, make_config: MakeConfig
) -> None:
    config = make_config(num_phases=4, num_generations=1, stop_rule=True, stop_drop=0.01)
    generations, state = play(config, by_phase(values))
    assert (len(generations), state.rejected) == (num_played, rejected)
    assert VLGA(SPACE, config).winner(state).place.phase == num_played - 1 - rejected


def test_stop_rule_switched_off_plays_all_phases(make_config: MakeConfig) -> None:
    generations, state = play(make_config(num_phases=3, num_generations=1), by_phase((0.6, 0.1, 0.2)))
    assert len(generations) == 3 and not state.rejected


def test_champion_among_nan_is_the_best_number_and_nan_alone_is_the_worst(make_config: MakeConfig) -> None:
    config = make_config(population_size=3, num_phases=2, num_generations=1, stop_rule=True)
    _, state = play(config, lambda one: 0.5 if one.place.individual == 1 and one.place.phase == 0 else math.nan)
    assert [champion.fitness for champion in state.finished] == [0.5, -math.inf]
    assert state.finished[0].place.individual == 1
    assert state.rejected


def test_run_ends_without_a_phase_in_which_everything_failed(make_config: MakeConfig) -> None:
    config = make_config(num_phases=3, num_generations=1)
    generations, state = play(config, by_phase((0.5, math.nan, 0.9)))
    assert (len(generations), state.rejected) == (2, True)
    assert VLGA(SPACE, config).winner(state).place.phase == 0
    generations, _ = play(config, by_phase((math.nan,)))
    assert len(generations) == 1


def test_survivors_that_failed_are_asked_again(small: SearchConfig) -> None:
    generations, _ = play(small, by_phase((math.nan,)))
    assert any(one.origin == "survivor" for one in generations[1].proposals)
    assert all(one.fitness is None for generation in generations for one in generation.proposals)


def test_tell_of_another_number_of_values_raises(small: SearchConfig) -> None:
    strategy, key = VLGA(SPACE, small), jax.random.key(0)
    with pytest.raises(ValueError, match="zip"):
        strategy.tell(key, strategy.init(key), [0.5] * 5)


@pytest.mark.parametrize("pick", ["state", "proposal", "champion", "strategy"])
def test_state_proposals_and_champions_are_immutable(pick: str, small: SearchConfig) -> None:
    generations, state = played(small)
    champion: Champion = state.finished[0]
    records = {
        "state": state,
        "proposal": generations[0].proposals[0],
        "champion": champion,
        "strategy": VLGA(SPACE, small),
    }
    for field in dataclasses.fields(records[pick]):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(records[pick], field.name, None)
