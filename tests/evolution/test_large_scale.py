import dataclasses
import math
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest

from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.large_scale import LargeScale, SearchConfig, State, draw_pairs, tournament
from vlga_jax.evolution.large_scale_mutations import Individual
from vlga_jax.evolution.strategy import Place, Proposal, Strategy, StrategyConfig
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import Gene, SearchSpace

SPACE = SearchSpace(
    (
        Gene("activation", ("relu", "elu"), inherited=True),
        Gene("a_channels", (8, 16)),
        Gene("a_kernel", (1, 3)),
        Gene("a_batch_norm", (True, False)),
        Gene("a_stride", (1, 2)),
        Gene("include_pool", (True, False)),
        Gene("pool_type", ("max",)),
        Gene("include_b", (True, False)),
        Gene("b_channels", (8, 16)),
        Gene("b_kernel", (1, 3)),
        Gene("b_batch_norm", (True, False)),
        Gene("include_skip", (True, False)),
        Gene("dropout_rate", (0.0,)),
    )
)
SMALL: dict[str, Any] = {
    "strategy": "large_scale",
    "population_size": 6,
    "num_children": 2,
    "num_cycles": 12,
    "max_convolutions": 3,
}
NAN = math.nan


def config_with(**changes: Any) -> SearchConfig:
    return parse(SearchConfig, {**SMALL, **changes}, "config.search")


def strategy_with(**changes: Any) -> LargeScale:
    return config_with(**changes).make(SPACE)


def worth(proposal: Proposal) -> float:
    text = f"{proposal.place} {proposal.learning_rate_factor}"
    return zlib.crc32(proposal.chromosome.genes.tobytes() + text.encode()) / 2**32


def play(strategy: LargeScale, seed: int = 0) -> tuple[list[tuple[State, tuple[Proposal, ...]]], State]:
    key, cycles = jax.random.key(seed), []
    state = strategy.init(key)
    while not strategy.done(state):
        proposals = strategy.ask(state)
        cycles.append((state, proposals))
        state = strategy.tell(key, state, [worth(one) for one in proposals])
    return cycles, state


def tell(strategy: LargeScale, state: State, fitness: Sequence[float]) -> State:
    return strategy.tell(jax.random.key(0), state, fitness)


def test_draw_pairs_takes_every_ordered_pair_alike_and_nobody_twice(assert_shares: Any) -> None:
    run = jax.jit(jax.vmap(lambda key: draw_pairs(key, 5, 2)))
    pairs = np.asarray(run(jax.random.split(jax.random.key(0), 20_000)))
    assert pairs.shape == (20_000, 2, 2)
    assert all(len(set(four)) == 4 for four in pairs[:500].reshape(-1, 4).tolist())
    for pair in (pairs[:, 0], pairs[:, 1]):
        counts = np.bincount(pair[:, 0] * 5 + pair[:, 1], minlength=25).reshape(5, 5)
        assert_shares(counts, len(pairs), (1 - np.eye(5)) / 20)


def test_tournament_worked_by_hand_keeps_the_fitter_of_each_pair() -> None:
    fitness = np.array([0.5, 0.7, 0.7, NAN, -0.1, NAN])
    pairs = np.array([[0, 1], [1, 0], [1, 2], [2, 1], [3, 4], [4, 3], [5, 3]])
    expected = [[1, 0], [1, 0], [1, 2], [2, 1], [4, 3], [4, 3], [5, 3]]
    assert tournament(pairs, fitness).tolist() == expected
    assert tournament(pairs[:1], fitness).tolist() == expected[:1]


def test_config_and_strategy_follow_the_protocol() -> None:
    config = config_with()
    assert isinstance(config, StrategyConfig) and isinstance(config.make(SPACE), Strategy)
    assert (config.planned_phases, config.planned_generations, config.population_size) == (1, 13, 6)


def test_run_begins_without_convolutions_and_asks_for_the_newly_born_only() -> None:
    cycles, state = play(strategy_with())
    assert [len(proposals) for _, proposals in cycles] == [6] + [2] * 12
    for number, (_, proposals) in enumerate(cycles):
        assert [one.place for one in proposals] == [Place(0, number, place) for place in range(len(proposals))]
        assert {one.origin for one in proposals} == {"mutant" if number else "initial"}
        assert all(one.may_be_parent and one.fitness is None and one.parent_b is None for one in proposals)
    for one in cycles[0][1]:
        assert one.chromosome.genes.shape == (0, 13)
        assert (one.inherits, one.sources, one.parent_a, one.learning_rate_factor) == (None, None, None, 1.0)
    assert strategy_with().ask(state) == ()


def test_run_grows_networks_of_single_convolutions_up_to_the_bound() -> None:
    cycles, _ = play(strategy_with(num_cycles=40))
    asked = [one for _, proposals in cycles for one in proposals]
    assert {one.chromosome.num_blocks for one in asked} == {0, 1, 2, 3}
    for one in asked:
        blocks = to_values(SPACE, one.chromosome)
        assert all(block["include_b"] is block["include_pool"] is False for block in blocks)
        assert len({block["activation"] for block in blocks}) <= 1


def test_in_each_cycle_the_less_fit_of_pairs_die_and_the_fitter_have_a_child() -> None:
    strategy = strategy_with()
    cycles, last = play(strategy)
    alive: dict[Place, float] = {}
    for (_, proposals), after in zip(cycles, [state for state, _ in cycles[1:]], strict=False):
        alive |= {one.place: worth(one) for one in proposals}
        survivors = {one.place: one.fitness for one in after.living}
        dead = sorted(set(alive) - set(survivors), key=lambda place: alive[place])
        assert survivors.items() <= alive.items() and len(dead) == len(set(after.parents)) == 2
        assert set(after.parents) <= set(survivors) == set(strategy.parents(after))
        # Each of the dead was beaten by a parent of its own: so also in order of fitness.
        fit = sorted(survivors[place] for place in after.parents if place is not None)
        assert all(alive[place] < winner for place, winner in zip(dead, fit, strict=True))
        alive = survivors
    assert len(last.living) == 6 and last.asked == ()


def test_children_inherit_from_a_living_parent_of_any_age() -> None:
    strategy = strategy_with(num_cycles=30)
    cycles, _ = play(strategy)
    known = {one.place: one for _, proposals in cycles for one in proposals}
    ages, resets = set(), 0
    for state, proposals in cycles[1:]:
        for one, parent in zip(proposals, state.parents, strict=True):
            assert parent is not None and parent in strategy.parents(state)
            age = one.place.generation - parent.generation
            assert one.parent_a == (parent.individual if age == 1 else None)
            ages.add(age)
            if one.sources is None:
                resets += 1
                assert one.inherits is None
                assert one.chromosome.genes.tolist() == known[parent].chromosome.genes.tolist()
            else:
                assert one.inherits == parent and len(one.sources) == one.chromosome.num_blocks
                blocks = range(known[parent].chromosome.num_blocks)
                assert all(source is None or source in blocks for source in one.sources)
    assert min(ages) == 1 < max(ages) and resets


def test_parents_before_anything_is_trained_are_none_and_then_all_the_living() -> None:
    strategy = strategy_with()
    state = strategy.init(jax.random.key(0))
    assert strategy.parents(state) == () == strategy.champions(state)
    state = tell(strategy, state, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert len(strategy.parents(state)) == 4
    assert Place(0, 0, 5) in strategy.parents(state), "the fittest cannot lose"
    assert strategy.winner(state).place == Place(0, 0, 5)


def test_the_first_drawn_of_equals_stays() -> None:
    strategy = strategy_with(population_size=2, num_children=1)
    state = strategy.init(jax.random.key(0))
    firsts = set()
    for seed in range(8):
        after = strategy.tell(jax.random.key(seed), state, [0.5, 0.5])
        (survivor,) = after.living
        assert after.parents == (survivor.place,)
        firsts.add(survivor.place.individual)
    assert firsts == {0, 1}


def test_child_of_a_parent_that_failed_starts_afresh() -> None:
    strategy = strategy_with(population_size=4, num_children=2)
    state = tell(strategy, strategy.init(jax.random.key(0)), [NAN] * 4)
    assert len(state.living) == 2 and None not in state.parents
    assert [(one.inherits, one.sources) for one in strategy.ask(state)] == [(None, None)] * 2
    while not strategy.done(state):
        state = tell(strategy, state, [NAN] * len(state.asked))
    assert strategy.winner(state).fitness == -math.inf


def test_child_of_a_parent_that_failed_is_none_where_another_did_not() -> None:
    strategy = strategy_with(population_size=2, num_children=1)
    state = tell(strategy, strategy.init(jax.random.key(0)), [NAN, 0.0])
    assert state.parents == (Place(0, 0, 1),)


def test_the_winner_is_the_best_ever_asked_for_and_may_be_dead() -> None:
    strategy, key = strategy_with(population_size=2, num_children=1), jax.random.key(0)
    cycles, state = play(strategy)
    best = max((one for _, proposals in cycles for one in proposals), key=worth)
    assert (strategy.winner(state).place, strategy.winner(state).fitness) == (best.place, worth(best))
    # Among equals the first drawn stays, so that at last the first champion dies; fitness reported is the same.
    state = strategy.init(key)
    while not strategy.done(state):
        state = strategy.tell(key, state, [0.5] * len(state.asked))
    assert strategy.winner(state).place == Place(0, 0, 0)
    assert Place(0, 0, 0) not in strategy.parents(state)


def test_run_of_no_cycles_asks_once() -> None:
    cycles, state = play(strategy_with(num_cycles=0))
    assert len(cycles) == 1 and len(state.living) == 6
    assert strategy_with(num_cycles=0).winner(state).fitness == max(worth(one) for one in cycles[0][1])


def test_run_of_the_same_key_is_the_same_and_of_another_is_not() -> None:
    def asked(seed: int) -> list[Individual]:
        return [one for state, _ in play(strategy_with(num_cycles=6), seed)[0] for one in state.asked]

    assert asked(0) == asked(0) != asked(1)


def test_tell_leaves_the_state_as_it_was() -> None:
    strategy = strategy_with()
    state = strategy.init(jax.random.key(0))
    first, again, other = (tell(strategy, state, [0.1] * 5 + [last]) for last in (0.1, 0.1, 0.2))
    assert (first.living, first.asked, first.parents) == (again.living, again.asked, again.parents)
    assert first.living != other.living
    assert (state.cycle, state.living, state.best) == (0, (), None)


def test_run_draws_with_no_key_twice_and_derives_none_from_one_drawn_with(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    derived: set[bytes] = set()

    def recording(function: Any, record: Any) -> Any:
        def call(key: Any, *arguments: Any, **more: Any) -> Any:
            record(np.asarray(jax.random.key_data(key)).tobytes())
            return function(key, *arguments, **more)

        return call

    for name in ("bernoulli", "bits", "categorical", "choice", "permutation", "randint", "split", "uniform"):
        monkeypatch.setattr(jax.random, name, recording(getattr(jax.random, name), drawn.append))
    monkeypatch.setattr(jax.random, "fold_in", recording(jax.random.fold_in, derived.add))
    play(strategy_with())
    assert len(drawn) > 6 + 12 * 2 * 2
    assert len(set(drawn)) == len(drawn) and not derived & set(drawn)


def test_config_of_more_children_than_pairs_is_an_input_error() -> None:
    assert config_with(num_children=3).num_children == 3
    with pytest.raises(InputError, match=r"config\.search\.num_children=4: must be at most half of population_size=6"):
        config_with(num_children=4)


@pytest.mark.parametrize(
    ("gene", "change", "message"),
    [
        ("include_b", {"choices": (True,)}, r"config\.space\.include_b=\(True,\): must hold false"),
        ("include_pool", {"choices": (True,)}, r"config\.space\.include_pool=\(True,\): must hold false"),
        ("include_b", {"first_block": True}, r"config\.space\.first_block_has_b=True: must be false"),
    ],
)
def test_make_of_a_space_without_single_convolutions_is_an_input_error(
    gene: str, change: dict[str, Any], message: str
) -> None:
    genes = tuple(dataclasses.replace(one, **change) if one.name == gene else one for one in SPACE.genes)
    with pytest.raises(InputError, match=message):
        config_with().make(SearchSpace(genes))
