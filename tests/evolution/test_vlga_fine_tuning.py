"""Fine-tuning a phase's best before the next phase inherits it."""

import math
from collections.abc import Callable

import jax
import numpy as np
import pytest

from experiments import default
from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.strategy import Proposal
from vlga_jax.evolution.vlga import VLGA, SearchConfig, VLGAState
from vlga_jax.genome.space import SpaceConfig, make_search_space

MakeConfig = Callable[..., SearchConfig]
SPACE = make_search_space(parse(SpaceConfig, default.get_config().space.to_dict()))


def asked(config: SearchConfig, fitness: Callable[[Proposal], float]) -> tuple[list[tuple[Proposal, ...]], VLGAState]:
    """Returns what a search asks, generation by generation, and its last state."""
    strategy, key, generations = VLGA(SPACE, config), jax.random.key(0), []
    state = strategy.init(key)
    while not strategy.done(state):
        generations.append(strategy.ask(state))
        told = [fitness(one) if one.fitness is None else one.fitness for one in generations[-1]]
        state = strategy.tell(key, state, told)
    return generations, state


@pytest.mark.parametrize("of", [0, 1])
def test_fine_tuning_ends_a_phase_with_its_best_alone_trained_on_whole_at_its_own_rate(
    make_config: MakeConfig, of: int
) -> None:
    config = make_config(population_size=4, num_generations=2, fine_tuning_rate=0.25)
    generations, _ = asked(config, lambda one: 0.1 * one.place.individual if one.place.generation == of else 0.05)
    assert config.planned_generations == 3
    assert [len(proposals) for proposals in generations] == [4, 4, 1] * 3
    for phase in range(3):
        best, (one,) = generations[3 * phase + of][3], generations[3 * phase + 2]
        assert tuple(one.place) == (phase, 2, 0) and one.origin == "fine_tuned" and one.fitness is None
        assert one.inherits == best.place and one.sources == tuple(range(phase + 1))
        assert one.learning_rate_factor == 0.25
        np.testing.assert_array_equal(one.chromosome.genes, best.chromosome.genes)


@pytest.mark.parametrize(
    ("tuned", "heir_of"), [(0.6, (0, 1, 0)), (0.5, (0, 0, 0)), (0.4, (0, 0, 0)), (math.nan, (0, 0, 0))]
)
def test_fine_tuned_network_is_inherited_only_where_it_is_fitter(
    make_config: MakeConfig, tuned: float, heir_of: tuple[int, int, int]
) -> None:
    config = make_config(num_phases=2, num_generations=1, population_size=3, fine_tuning_rate=0.1)
    generations, state = asked(config, lambda one: tuned if one.origin == "fine_tuned" else 0.5)
    assert state.finished[0].fitness == (0.6 if tuned == 0.6 else 0.5)
    assert {one.inherits for one in generations[2]} == {heir_of} == {state.finished[0].place}
    assert all(one.sources is None and one.learning_rate_factor == 1 for one in generations[2])  # frozen again


def test_phase_in_which_everything_failed_is_not_fine_tuned(make_config: MakeConfig) -> None:
    config = make_config(num_phases=3, num_generations=1, population_size=3, fine_tuning_rate=0.1)
    generations, state = asked(config, lambda one: (0.5, math.nan)[one.place.phase])
    assert [len(proposals) for proposals in generations] == [3, 1, 3]
    assert state.rejected and len(state.finished) == 2


def test_without_a_rate_no_generation_is_added(make_config: MakeConfig) -> None:
    config = make_config(num_phases=2, num_generations=2, population_size=3, fine_tuning_rate=0.0)
    generations, _ = asked(config, lambda _: 0.5)
    assert [len(proposals) for proposals in generations] == [3] * 4 and config.planned_generations == 2


def test_fine_tuning_without_weight_transfer_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(
        InputError, match=r"fine_tuning_rate=0.1: .* set it to 0, or config.search.weight_transfer=true"
    ):
        make_config(fine_tuning_rate=0.1, weight_transfer=False)
