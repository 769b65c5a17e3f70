import itertools
import zlib
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import default
from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.ant_colony import AntColony, SearchConfig, State, choose, moved, num_shared_blocks, walk
from vlga_jax.evolution.strategy import Place, Proposal
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SearchSpace, SpaceConfig, make_search_space
from vlga_jax.keys import stream

DEFAULT = default.get_config().space.to_dict()
SIZES = {"strategy": "ant_colony", "num_ants": 4, "max_depth": 3, "num_iterations": 5}
RATES = {"greediness": 0.5, "pheromone_start": 0.1, "pheromone_decay": 0.1, "pheromone_evaporation": 0.1}
SHARES = ["greediness", "pheromone_decay", "pheromone_evaporation"]
RATE = st.floats(0, 1)
KEY = jax.random.key(0)
FREE = np.array([[True, True, False], [False, False, False], [False, True, True]])
NUM_CHOICES = np.array([2, 3, 2], np.int32)


def space_with(**changes: Any) -> SearchSpace:
    return make_search_space(parse(SpaceConfig, {**DEFAULT, **changes}))


SPACE = space_with()
ACTIVATION, POOL, INCLUDE_B = map([gene.name for gene in SPACE.genes].index, ("activation", "pool_type", "include_b"))
SINGLE = {name: DEFAULT[name][:1] for name in ("channels", "kernels", "batch_norm", "include_pool", "include_skip")}
FEW = space_with(**SINGLE)
"""Its layers: the activation (3 choices), each block's pool type (2) and, after the first block, include_b (2)."""


def colony(space: SearchSpace = SPACE, **changes: Any) -> AntColony:
    return AntColony(space, parse(SearchConfig, {**SIZES, **RATES, **changes}, "config.search"))


def worth(proposal: Proposal) -> float:
    return zlib.crc32(proposal.chromosome.genes.tobytes()) / 2**32


def play(strategy: AntColony, seed: int = 0) -> tuple[list[tuple[State, tuple[Proposal, ...]]], State]:
    key, iterations = jax.random.key(seed), []
    state = strategy.init(key)
    while not strategy.done(state):
        proposals = strategy.ask(state)
        iterations.append((state, proposals))
        state = strategy.tell(key, state, [worth(one) for one in proposals])
    return iterations, state


def uniform(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def planted(rest: float = 0.1) -> np.ndarray:
    """Pheromone of `FREE` with most of it on the path 1, 2 | | 0, 1; the second block has no layer."""
    pheromone = np.full((4, 3, 3, 3), rest)
    pheromone[0, 0, 0, 1] = pheromone[0, 1, 1, 2] = pheromone[2, 1, 2, 0] = pheromone[2, 2, 0, 1] = 0.7
    return pheromone


@pytest.mark.parametrize(
    ("exploit", "draws", "expected"),
    [
        (False, [0.0, 0.199, 0.201, 0.599, 0.601, 1 - 2**-24], [0, 0, 2, 2, 3, 3]),  # shares 0.2, 0, 0.4, 0.4
        (True, [0.0, 0.499, 0.501, 1 - 2**-24], [2, 2, 3, 3]),  # the two with the most
    ],
)
def test_choose_of_a_draw_is_the_edge_at_that_share(exploit: bool, draws: list[float], expected: list[int]) -> None:
    assert [choose(np.array([0.1, 0.0, 0.2, 0.2]), exploit=exploit, draw=draw) for draw in draws] == expected


@pytest.mark.parametrize("start", [5e-324, 1e-9, 1e6])
def test_choose_among_edges_alike_never_leaves_them(start: float) -> None:
    for exploit in (False, True):
        assert {choose(np.full(7, start), exploit=exploit, draw=draw / 7 + 0.01) for draw in range(7)} == set(range(7))


def test_walk_that_is_greedy_takes_the_planted_path() -> None:
    for seed in range(20):
        path = walk(planted(), FREE, NUM_CHOICES, uniform(3, 3, 2, seed=seed), greediness=1.0)
        np.testing.assert_array_equal(path, [[1, 2, 0], [0, 0, 0], [0, 0, 1]])
        assert path.dtype == np.int32
    assert not walk(planted(), FREE, NUM_CHOICES, np.zeros((3, 3, 2)), greediness=0.0).any(), "0 has the first share"


def test_walk_draws_in_proportion_to_the_pheromone_of_the_edges_from_where_it_stands(assert_shares: Any) -> None:
    paths = np.stack([walk(planted(), FREE, NUM_CHOICES, own, greediness=0.0) for own in uniform(6_000, 3, 3, 2)])
    first, second, third, fourth = paths[:, 0, 0], paths[:, 0, 1], paths[:, 2, 1], paths[:, 2, 2]
    for choices, probabilities in (
        (first, [1 / 8, 7 / 8]),
        (second[first == 0], [1 / 3, 1 / 3, 1 / 3]),
        (second[first == 1], [1 / 9, 1 / 9, 7 / 9]),
        (third[second == 1], [1 / 3, 1 / 3, 1 / 3]),
        (third[second == 2], [7 / 9, 1 / 9, 1 / 9]),
        (fourth[third == 0], [1 / 8, 7 / 8]),
        (fourth[third == 2], [1 / 2, 1 / 2]),
    ):
        assert_shares(np.bincount(choices, minlength=len(probabilities)), len(choices), probabilities)


def test_walk_that_is_sometimes_greedy_mixes_both_rules(assert_shares: Any) -> None:
    firsts = [walk(planted(), FREE, NUM_CHOICES, own, greediness=0.4)[0, 0] for own in uniform(2_000, 3, 3, 2)]
    assert_shares(np.bincount(firsts), len(firsts), [0.6 / 8, 0.4 + 0.6 * 7 / 8])


@pytest.mark.parametrize("greediness", [0.0, 0.5, 1.0])
def test_walk_of_an_untouched_graph_is_uniform(greediness: float, assert_shares: Any) -> None:
    pheromone, draws = np.full((3, 3, 3, 3), 0.1), uniform(2_000, 3, 3, 2)
    paths = np.stack([walk(pheromone, FREE, NUM_CHOICES, own, greediness=greediness) for own in draws])
    for block, gene in zip(*np.nonzero(FREE), strict=True):
        size = NUM_CHOICES[gene]
        assert_shares(np.bincount(paths[:, block, gene], minlength=size), len(paths), np.full(size, 1 / size))
    assert not paths[:, ~FREE].any()


def test_moved_of_a_path_changes_its_edges_alone_and_not_its_argument() -> None:
    pheromone, path = planted(0.2), np.array([[1, 0, 9], [9, 9, 9], [9, 2, 1]])  # 9: not free, does not count
    result = moved(pheromone, path, FREE, rate=0.1, towards=0.9)
    expected = planted(0.2)
    expected[0, 0, 0, 1] = 0.9 * 0.7 + 0.1 * 0.9
    expected[0, 1, 1, 0] = expected[2, 1, 0, 2] = expected[2, 2, 2, 1] = 0.9 * 0.2 + 0.1 * 0.9
    np.testing.assert_allclose(result, expected, rtol=1e-15)
    assert (result != planted(0.2)).sum() == 4
    np.testing.assert_array_equal(moved(pheromone, path, FREE, rate=0.0, towards=0.9), planted(0.2))
    assert moved(pheromone, path, FREE, rate=1.0, towards=0.9)[0, 0, 0, 1] == 0.9
    np.testing.assert_array_equal(pheromone, planted(0.2))


@settings(deadline=None, derandomize=True)
@given(start=st.floats(1e-9, 1e6), rate=RATE)
def test_moved_of_an_edge_that_is_there_already_changes_no_bit(start: float, rate: float) -> None:
    pheromone = np.full((1, 3, 3, 3), start)
    result = moved(pheromone, np.array([[1, 0, 0]]), FREE[:1], rate=rate, towards=start)
    np.testing.assert_array_equal(result, pheromone)


@pytest.mark.parametrize(
    ("other", "expected"),
    [([[1, 2], [3, 4]], 2), ([[1, 2], [3, 4], [5, 6]], 2), ([[1, 2]], 1), ([[1, 2], [0, 4]], 1), ([[1, 0], [3, 4]], 0)],
)
def test_num_shared_blocks_counts_leading_equal_rows(other: list[list[int]], expected: int) -> None:
    one = np.array([[1, 2], [3, 4]])
    assert num_shared_blocks(one, np.array(other)) == num_shared_blocks(np.array(other), one) == expected


def test_pheromone_of_greedy_ants_by_hand() -> None:
    space = space_with(**SINGLE, include_b=(True,))
    strategy = colony(space, num_ants=2, max_depth=2, greediness=1.0, pheromone_start=0.2)
    state = strategy.init(KEY)
    np.testing.assert_array_equal(state.pheromone, 0.2)  # the local update of an edge at its start
    first, second = state.paths[1, 0, ACTIVATION], state.paths[1, 0, POOL]
    state = strategy.tell(KEY, state, [0.1, 0.8])
    # Told: 0.9 * 0.2 + 0.1 * 0.8 = 0.26. Then each of two ants follows and takes a tenth of the way back to 0.2:
    # 0.254, 0.2486. Their second blocks lie on untouched edges, which the local update leaves at 0.2.
    expected = np.full(state.pheromone.shape, 0.2)
    expected[0, ACTIVATION, 0, first] = expected[0, POOL, first, second] = 0.2486
    np.testing.assert_allclose(state.pheromone, expected, rtol=1e-14)
    for one in strategy.ask(state):
        assert (one.inherits, one.sources) == (Place(0, 0, 1), (0, None))
    state = strategy.tell(KEY, state, [0.3, 0.4])  # the best stays the best, and is updated again
    after = 0.9 * 0.2486 + 0.1 * 0.8
    for _ in range(2):
        after = 0.9 * after + 0.1 * 0.2
    expected[0, ACTIVATION, 0, first] = expected[0, POOL, first, second] = after
    np.testing.assert_allclose(state.pheromone, expected, rtol=1e-14)


def test_run_grows_by_a_block_an_iteration_up_to_its_depth() -> None:
    iterations, last = play(colony())
    assert [state.paths.shape for state, _ in iterations] == [(4, depth, SPACE.num_genes) for depth in (1, 2, 3, 3, 3)]
    assert last.pheromone.shape == (3, SPACE.num_genes, 7, 7)
    for number, (_, proposals) in enumerate(iterations):
        assert [(one.place, one.origin) for one in proposals] == [(Place(0, number, ant), "ant") for ant in range(4)]
        for one in proposals:
            assert (one.chromosome.genes >= 0).all() and (one.chromosome.genes < SPACE.num_choices).all()
            blocks = to_values(SPACE, one.chromosome)
            assert blocks[0]["include_b"] is True
            assert len({block["activation"] for block in blocks}) == 1
    rows = np.concatenate([one.chromosome.genes[1:] for _, proposals in iterations for one in proposals])
    assert (set(rows[:, ACTIVATION]), set(rows[:, INCLUDE_B])) == ({0, 1, 2}, {0, 1})
    np.testing.assert_array_equal(last.pheromone[1:, ACTIVATION], 0.1)  # an inherited gene is no layer of later blocks
    np.testing.assert_array_equal(last.pheromone[0, INCLUDE_B], 0.1)


@pytest.mark.parametrize("seed", range(5))
def test_run_starts_from_the_best_where_the_first_blocks_are_equal(seed: int) -> None:
    iterations, _ = play(colony(FEW, num_ants=6), seed)
    best, seen = None, set()
    for _, proposals in iterations:
        for one in proposals:
            genes = one.chromosome.genes
            known = best.chromosome.genes if best else genes[:0]
            shared = len([*itertools.takewhile(lambda rows: np.array_equal(*rows), zip(genes, known, strict=False))])
            seen.add((len(genes), shared))
            assert one.may_be_parent is False and one.learning_rate_factor == 1.0 and one.fitness is None
            if shared == 0:
                assert (one.inherits, one.sources) == (None, None)
            else:
                assert best is not None and one.inherits == best.place
                assert one.sources == tuple(block if block < shared else None for block in range(len(genes)))
        best = max([*([best] if best else []), *proposals], key=worth)
    assert {(1, 0), (2, 0), (2, 1)} <= seen


def test_run_asks_to_train_the_best_on_where_an_ant_takes_its_whole_path() -> None:
    strategy = colony(num_ants=2, max_depth=1, greediness=1.0, pheromone_decay=0.0)
    state = strategy.tell(KEY, strategy.init(KEY), [0.5, 0.6])
    for one in strategy.ask(state):
        np.testing.assert_array_equal(one.chromosome.genes, strategy.winner(state).chromosome.genes)
        assert (one.inherits, one.sources) == (Place(0, 0, 1), (0,))
    state = strategy.tell(KEY, state, [0.55, 0.7])
    assert (strategy.winner(state).place, strategy.winner(state).fitness) == (Place(0, 1, 1), 0.7)


def test_run_keeps_the_best_ever_as_champion_and_winner() -> None:
    strategy, config, (iterations, last) = colony(), colony().config, play(colony())
    assert (config.population_size, config.planned_generations, config.planned_phases) == (4, 5, 1)
    assert len(iterations) == 5 and config.make(SPACE) == strategy
    assert strategy.champions(iterations[0][0]) == strategy.parents(iterations[0][0]) == ()
    best = max((one for _, proposals in iterations for one in proposals), key=worth)
    winner = strategy.winner(last)
    assert (winner.place, winner.fitness) == (best.place, worth(best))
    assert strategy.champions(last) == (winner,) and strategy.parents(last) == ()


def test_tell_of_failed_or_tied_ants_never_makes_them_the_best() -> None:
    strategy = colony(num_ants=3)
    state = strategy.tell(KEY, strategy.init(KEY), [np.nan, np.nan, np.nan])
    assert state.best is None and strategy.champions(state) == strategy.parents(state) == ()
    np.testing.assert_array_equal(state.pheromone, 0.1)
    assert [(one.inherits, one.sources) for one in strategy.ask(state)] == [(None, None)] * 3
    with pytest.raises(IndexError):
        strategy.winner(state)
    state = strategy.tell(KEY, state, [np.nan, 0.0, 0.0])
    assert (state.pheromone < 0.1).any(), "a fitness of 0 is one"
    for told in ([np.nan, np.nan, np.nan], [0.0, np.nan, 0.0]):
        assert (strategy.winner(state).place, strategy.winner(state).fitness) == (Place(0, 1, 1), 0.0)
        state = strategy.tell(KEY, state, told)
    assert strategy.winner(state).place == Place(0, 1, 1)


def test_run_of_the_same_key_is_the_same_and_of_another_is_not() -> None:
    def genes(seed: int) -> list[bytes]:
        return [one.chromosome.genes.tobytes() for _, proposals in play(colony(), seed)[0] for one in proposals]

    assert genes(0) == genes(0) != genes(1)


def test_run_gives_every_ant_of_every_iteration_draws_of_its_own_key() -> None:
    strategy = colony(num_ants=5, max_depth=1)
    first = strategy.init(KEY)
    second = strategy.tell(KEY, first, [np.nan] * 5)
    assert len(np.unique(np.concatenate([first.paths, second.paths]), axis=0)) == 10
    untouched = np.full((1, SPACE.num_genes, 7, 7), 0.1)  # the same for all, where all fail
    for iteration, ant in itertools.product(range(2), range(5)):
        draws = np.asarray(jax.random.uniform(stream(KEY, "ant", iteration, ant), (1, SPACE.num_genes, 2)), np.float64)
        alone = walk(untouched, SPACE.free(0)[None], SPACE.num_choices, draws, greediness=0.5)
        np.testing.assert_array_equal((first, second)[iteration].paths[ant], alone)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), start=st.floats(1e-3, 2), decay=RATE, evaporation=RATE, greediness=RATE)
def test_pheromone_lies_between_its_start_and_the_fitness_told(
    seed: int, start: float, decay: float, evaporation: float, greediness: float
) -> None:
    rates = {"pheromone_decay": decay, "pheromone_evaporation": evaporation, "greediness": greediness}
    strategy = colony(FEW, pheromone_start=start, **rates)
    iterations, last = play(strategy, seed)
    told = [worth(one) for _, proposals in iterations for one in proposals]
    low, high = min(start, *told), max(start, *told)
    pheromone = np.stack([*(state.pheromone for state, _ in iterations), last.pheromone])
    assert low * (1 - 1e-12) <= pheromone.min() and pheromone.max() <= high * (1 + 1e-12)


def test_pheromone_of_a_fit_path_draws_ants_and_of_an_unfit_one_repels_them() -> None:
    def num_followers(fitness: float) -> int:
        strategy = colony(FEW, num_ants=200, greediness=0.0, pheromone_decay=0.0, pheromone_evaporation=1.0)
        state = strategy.tell(KEY, strategy.init(KEY), [fitness, *[0.0] * 199])
        return sum(one.inherits is not None for one in strategy.ask(state))

    # Activation (3 choices) and pool type (2) of the first block: 9/11 * 9/10 of 200, and 1/21 * 1/11.
    assert num_followers(0.9) > 120 and num_followers(0.01) < 10


@pytest.mark.parametrize(
    ("value", "fields"),
    [(0, [*SIZES][1:]), (0, ["pheromone_start"]), (51, ["max_depth"]), (-0.1, [*RATES]), (1.1, SHARES)],
)
def test_config_out_of_range_is_an_input_error(value: Any, fields: list[str]) -> None:
    for field in fields:
        with pytest.raises(InputError, match=rf"config\.search\.{field}=.*must be"):
            colony(**{field: value})
