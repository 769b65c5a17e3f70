"""Which phase's champion is trained to convergence."""

import math
from collections.abc import Callable, Sequence

import jax
import pytest

from experiments import default
from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.vlga import VLGA, SearchConfig, VLGAState
from vlga_jax.genome.space import SpaceConfig, make_search_space

MakeConfig = Callable[..., SearchConfig]
SPACE = make_search_space(parse(SpaceConfig, default.get_config().space.to_dict()))


def last_state(config: SearchConfig, values: Sequence[float]) -> VLGAState:
    """Returns the state after a search in which everyone of a phase is as fit as `values` says."""
    strategy, key = VLGA(SPACE, config), jax.random.key(0)
    state = strategy.init(key)
    while not strategy.done(state):
        proposals = strategy.ask(state)
        state = strategy.tell(key, state, [values[state.phase]] * len(proposals))
    return state


def winning_phase(config: SearchConfig, values: Sequence[float]) -> int:
    return VLGA(SPACE, config).winner(last_state(config, values)).place.phase


@pytest.mark.parametrize(
    ("winner", "stop_rule", "expected"),
    [("last_phase", False, 3), ("best_phase", False, 0), ("last_phase", True, 2), ("best_phase", True, 0)],
)
def test_winner_is_of_the_last_or_the_best_accepted_phase(
    winner: str, stop_rule: bool, expected: int, make_config: MakeConfig
) -> None:
    config = make_config(num_phases=4, num_generations=1, winner=winner, stop_rule=stop_rule)
    assert winning_phase(config, (0.605, 0.6, 0.605, 0.5)) == expected


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(0.0, 3), (0.009, 3), (0.01, 2), (0.05, 2), (0.1, 1), (0.29, 1), (0.3, 0), (1.0, 0)]
)
def test_winner_is_the_first_phase_within_the_tolerance_of_the_best(
    tolerance: float, expected: int, make_config: MakeConfig
) -> None:
    config = make_config(num_phases=5, num_generations=1, winner="best_phase", winner_tolerance=tolerance)
    assert winning_phase(config, (0.4, 0.6, 0.69, 0.7, 0.65)) == expected


def test_winner_tolerance_counts_from_the_best_accepted_phase(make_config: MakeConfig) -> None:
    config = make_config(num_phases=3, num_generations=1, winner="best_phase", winner_tolerance=0.05)
    assert last_state(config, (0.6, 0.64, math.nan)).rejected
    assert winning_phase(config, (0.6, 0.64, math.nan)) == 0


def test_winner_tolerance_without_the_best_phase_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(InputError, match=r"config.search.winner_tolerance=0.1: .* set it to 0, or .*best_phase"):
        make_config(winner_tolerance=0.1, winner="last_phase")


@pytest.mark.parametrize("winner", ["last_phase", "best_phase"])
def test_winner_of_a_search_in_which_everything_failed_raises(winner: str, make_config: MakeConfig) -> None:
    config = make_config(num_phases=3, num_generations=1, winner=winner)
    with pytest.raises(IndexError):
        winning_phase(config, (math.nan,))
