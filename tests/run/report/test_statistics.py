"""Means, medians, intervals and tests against what is worked out by hand, and scipy where scipy is exact."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vlga_jax.run.report.statistics import (
    band,
    best_so_far,
    bootstrap_mean,
    holm,
    paired,
    repeat_interval,
    signed_rank_p_value,
)

NAN = math.nan
ACCURACIES = st.integers(0, 360).map(lambda hits: hits / 360)
DIFFERENCES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=9)


def test_best_so_far_worked_example_is_a_step_function() -> None:
    points = [(2.0, 0.5), (4.0, 0.25), (4.0, 0.625), (7.0, 0.75)]
    grid = np.array([0.0, 2.0, 3.0, 4.0, 6.5, 7.0, 100.0])
    np.testing.assert_array_equal(best_so_far(points, grid), [NAN, 0.5, 0.5, 0.625, 0.625, 0.75, 0.75])


def test_best_so_far_failed_networks_count_for_nothing() -> None:
    points = [(1.0, NAN), (2.0, 0.5), (3.0, NAN), (4.0, 0.25)]
    np.testing.assert_array_equal(best_so_far(points, np.array([1.0, 2.0, 3.0, 4.0])), [NAN, 0.5, 0.5, 0.5])


def test_best_so_far_no_points_is_nan() -> None:
    np.testing.assert_array_equal(best_so_far([], np.array([0.0, 1.0])), [NAN, NAN])


def test_best_so_far_decreasing_positions_raises() -> None:
    with pytest.raises(ValueError, match="in order"):
        best_so_far([(2.0, 0.5), (1.0, 0.5)], np.array([1.0]))


def test_bootstrap_mean_of_two_values_spans_them() -> None:
    assert bootstrap_mean([0.25, 0.75]) == (0.5, 0.25, 0.75)  # a quarter of the resamples is twice the same value


def test_bootstrap_mean_of_one_value_has_no_interval() -> None:
    np.testing.assert_equal(tuple(bootstrap_mean([0.3])), (0.3, NAN, NAN))


@pytest.mark.parametrize("num_values", [2, 3, 20])
def test_bootstrap_mean_of_equal_values_has_no_width(num_values: int) -> None:
    assert bootstrap_mean([0.1] * num_values) == (0.1, 0.1, 0.1)
    assert bootstrap_mean([0.0] * num_values) == (0.0, 0.0, 0.0)


def test_bootstrap_mean_of_many_values_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(0.9, 0.02, 400)
    mean, low, high = bootstrap_mean(values.tolist())
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert mean == pytest.approx(np.mean(values))
    np.testing.assert_allclose([low, high], [mean - 1.96 * error, mean + 1.96 * error], atol=0.1 * error)


def test_bootstrap_mean_of_skewed_values_reaches_further_to_the_long_side() -> None:
    mean, low, high = bootstrap_mean([0.0, 0.0, 0.01, 0.01, 0.02, 0.02, 0.03, 0.05, 0.2, 0.5])
    assert high - mean > 1.5 * (mean - low)


@given(st.lists(ACCURACIES, min_size=2, max_size=20))
def test_bootstrap_mean_any_values_stays_among_them_and_repeats(values: list[float]) -> None:
    interval = bootstrap_mean(values)
    tolerance = 1e-12
    assert min(values) - tolerance <= interval.low <= interval.mean + tolerance
    assert interval.mean - tolerance <= interval.high <= max(values) + tolerance
    assert interval == bootstrap_mean(values)


@pytest.mark.parametrize("values", [[], [0.5, NAN], [math.inf, 0.5]])
def test_bootstrap_mean_of_nothing_finite_raises(values: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot average"):
        bootstrap_mean(values)


def test_repeat_interval_worked_by_hand() -> None:
    # s = sqrt(5/3) and t = 3.182 for three degrees of freedom: 3.182 * 1.291 * sqrt(1/2) = 2.905.
    np.testing.assert_allclose(repeat_interval([1.0, 2.0, 3.0, 4.0]), [-0.405, 5.405], atol=1e-3)
    assert repeat_interval([0.5, 0.5]) == (0.5, 0.5)
    assert all(math.isnan(end) for end in repeat_interval([0.5]))


def test_repeat_interval_holds_the_mean_of_as_many_others_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.1, (4000, 2, 5))
    intervals = np.array([repeat_interval(first) for first, _ in draws])
    others = draws[:, 1].mean(axis=1)
    share = np.mean((intervals[:, 0] <= others) & (others <= intervals[:, 1]))
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize(("num_seeds", "low", "high"), [(3, 0, 2), (5, 0, 4), (9, 1, 7), (21, 6, 14)])
def test_band_of_an_odd_number_of_seeds_ends_at_the_ranks_of_the_binomial_law(
    num_seeds: int, low: int, high: int
) -> None:
    # A resample's median is at most the k-th lowest value if most of its draws are: of num_seeds, each with k in n.
    chance = stats.binom.sf(num_seeds // 2, num_seeds, (np.arange(num_seeds) + 1) / num_seeds)
    assert (np.searchsorted(chance, 0.025), np.searchsorted(chance, 0.975)) == (low, high)
    column = np.random.default_rng(1).permutation(num_seeds).astype(float)[:, None]
    assert [values.item() for values in band(column)] == [num_seeds // 2, low, high]


def test_band_of_an_even_number_of_seeds_agrees_with_plain_resampling() -> None:
    random = np.random.default_rng(2)
    curves = random.normal(size=(20, 3))
    medians = np.array([np.median(curves[random.integers(20, size=20)], axis=0) for _ in range(20_000)])
    median, low, high = band(curves)
    np.testing.assert_allclose(median, np.median(curves, axis=0))
    np.testing.assert_allclose([low, high], np.quantile(medians, [0.025, 0.975], axis=0), atol=0.05)


def test_band_missing_values_are_those_of_the_seeds_that_are_there() -> None:
    curves = np.random.default_rng(4).normal(size=(7, 4))
    holed = curves.copy()
    holed[[1, 4], 0] = NAN
    holed[:6, 1] = NAN
    holed[:, 2] = NAN
    median, low, high = band(holed)
    np.testing.assert_array_equal([median[:1], low[:1], high[:1]], band(curves[[0, 2, 3, 5, 6], :1]))
    np.testing.assert_array_equal([median[1], low[1], high[1]], [curves[6, 1], NAN, NAN])
    np.testing.assert_array_equal([median[2], low[2], high[2]], [NAN, NAN, NAN])
    np.testing.assert_array_equal([median[3:], low[3:], high[3:]], band(curves[:, 3:]))


def test_band_more_seeds_is_narrower() -> None:
    values = np.random.default_rng(5).normal(size=(160, 1))
    widths = [(band(values[:n]).high - band(values[:n]).low).item() for n in (10, 40, 160)]
    assert widths[0] > 1.4 * widths[1] > 1.4 * 1.4 * widths[2]


def test_paired_worked_example_uses_common_seeds_only() -> None:
    difference = paired({0: 0.5, 1: 0.25, 2: 0.5}, {2: 1.0, 1: 0.5, 7: 0.0})
    assert difference == (0.375, 0.25, 0.5, 0.5, 2)  # both differences are positive: 2 of 4 signs are as far out


def test_paired_equal_values_differ_by_nothing() -> None:
    values = {seed: 0.9 + 0.01 * seed for seed in range(5)}
    assert paired(values, values) == (0.0, 0.0, 0.0, 1.0, 5)


def test_paired_rounding_errors_do_not_part_ties() -> None:
    reference, other = [0.1, 0.2, 0.3, 0.5], [0.0, 0.3, 0.4, 0.6]
    assert len({abs(b - a) for a, b in zip(reference, other, strict=True)}) > 1
    difference = paired(dict(enumerate(reference)), dict(enumerate(other)))
    assert difference.p_value == 0.625  # three plus signs or more, and as many minus signs: 2 * (1 + 4) of 16


def test_paired_no_common_seed_raises() -> None:
    with pytest.raises(ValueError, match="no common seed"):
        paired({0: 0.5}, {1: 0.5})


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([0.1, 0.2, 0.3], 2 / 8),  # the largest of 8 sums, and the smallest
        ([0.0, 0.1, 0.0, 0.2, 0.3], 2 / 8),
        ([-0.1, 0.2, 0.3], 4 / 8),  # sums 5 and 6, 0 and 1
        ([0.1, 0.1, -0.1], 1.0),  # all of rank 2: sums 4 and 6 make half
        ([0.2], 1.0),
        ([0.0, 0.0], 1.0),
        ([], 1.0),
        ([0.01 * (place + 1) for place in range(20)], 2.0**-19),
    ],
)
def test_signed_rank_p_value_worked_examples(differences: list[float], p_value: float) -> None:
    assert signed_rank_p_value(np.array(differences)) == p_value
    assert signed_rank_p_value(-np.array(differences)) == p_value


@pytest.mark.parametrize("num_pairs", [4, 13, 20, 50])
def test_signed_rank_p_value_without_ties_is_scipys_exact_one(num_pairs: int) -> None:
    for shift in (0.0, 0.3, 1.0):
        differences = np.random.default_rng(num_pairs).normal(shift, 1.0, num_pairs)
        expected = stats.wilcoxon(differences, method="exact").pvalue
        assert signed_rank_p_value(differences) == pytest.approx(expected, rel=1e-9)


@given(DIFFERENCES)
def test_signed_rank_p_value_with_ties_is_scipys_over_all_signs(differences: list[float]) -> None:
    moved = [difference for difference in differences if difference]
    expected = stats.wilcoxon(moved, method=stats.PermutationMethod()).pvalue if len(moved) > 1 else 1.0
    assert signed_rank_p_value(np.array(differences)) == pytest.approx(expected)


def test_signed_rank_p_value_of_many_pairs_agrees_with_the_normal_law() -> None:
    differences = np.round(np.random.default_rng(6).normal(0.1, 1.0, 300), 1)
    expected = stats.wilcoxon(differences, method="asymptotic").pvalue
    assert signed_rank_p_value(differences) == pytest.approx(expected, rel=0.03)


def test_holm_worked_example_is_in_the_order_given() -> None:
    # Sorted: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04, raised to the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_edges_are_capped_and_single_ones_stay() -> None:
    assert holm([0.5, 0.6, 1.0]) == [1.0, 1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_any_p_values_keeps_their_order_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = np.array(holm(p_values))
    raw = np.array(p_values)
    assert np.all(raw <= adjusted)
    assert np.all(adjusted <= np.minimum(1.0, len(raw) * raw))
    assert np.all(np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0)
