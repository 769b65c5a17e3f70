import pytest

from vlga_jax.checks import InputError, parse
from vlga_jax.fitness.stopping import StoppingConfig, standing

NONE = StoppingConfig((), 0.0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (NONE, (4,)),
        (StoppingConfig((1, 2), 0.0), (1, 2, 4)),
        (StoppingConfig((), 0.5), (1, 2, 3, 4)),
        (StoppingConfig((2,), 0.5), (1, 2, 3, 4)),
    ],
)
def test_stages_of_four_epochs_are_those_where_somebody_may_stop_and_the_end(
    config: StoppingConfig, expected: tuple[int, ...]
) -> None:
    assert config.stages(4) == expected


@pytest.mark.parametrize(("rungs", "remedy"), [((4,), "below fitness.epochs=4"), ((2, 1), "must ascend")])
def test_stages_of_rungs_that_do_not_fit_are_refused(rungs: tuple[int, ...], remedy: str) -> None:
    with pytest.raises(InputError, match=rf"config\.stopping\.rungs=.*{remedy}"):
        StoppingConfig(rungs, 0.0).stages(4)


def test_parse_of_a_rung_below_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"config\.stopping\.rungs=\(0,\)"):
        parse(StoppingConfig, {"rungs": (0,), "reference_quantile": 0.0}, "config.stopping")


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ({}, []),
        ({"a": 0.1}, ["a"]),
        ({"a": 0.1, "b": 0.2}, ["b"]),
        ({"a": 0.1, "b": 0.3, "c": 0.2}, ["b", "c"]),
        ({"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.1}, ["a", "b"]),
    ],
)
def test_goes_on_at_a_rung_is_the_better_half_rounded_up_the_first_among_equals(
    accuracies: dict[str, float], expected: list[str]
) -> None:
    assert StoppingConfig((1,), 0.0).goes_on(1, accuracies, [0.9]) == expected


def test_goes_on_where_no_rung_is_everyone() -> None:
    assert StoppingConfig((1,), 0.0).goes_on(2, {"a": 0.1, "b": 0.2}, []) == ["b", "a"]


def test_goes_on_below_the_quantile_of_the_reference_stops() -> None:
    config = StoppingConfig((), 0.25)
    reference = [0.0, 0.5, 1.0, 1.0]  # its first quartile is 0.375
    assert config.goes_on(1, {"a": 0.37, "b": 0.375, "c": 0.9}, reference) == ["c", "b"]
    assert config.goes_on(1, {"a": 0.37}, []) == ["a"], "without a reference nobody stops"
    assert NONE.goes_on(1, {"a": 0.37}, reference) == ["a"]


def test_goes_on_at_a_rung_with_a_reference_takes_both() -> None:
    assert StoppingConfig((1,), 0.5).goes_on(1, {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, [0.35]) == ["d"]


def test_standing_of_the_worst_that_went_further_is_above_the_best_that_stopped() -> None:
    assert standing(0.25, 0) == 0.25
    assert standing(0.0, 0) > standing(1.0, 1) > standing(0.0, 1) > standing(1.0, 2)
