"""What many seeds say of a strategy: means and medians with their 95 % intervals, and tests of paired differences.

Every resampling starts from the same seed, so equal values give equal intervals.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from vlga_jax.shapes import Float

NUM_RESAMPLES = 9999
LEVEL = 0.95
LEAST_FOR_BCA = 3
"""Of fewer values the acceleration says nothing: their interval is the percentile one."""
_DECIMALS = 12  # 0.9 - 0.8 and 0.8 - 0.7 are one difference: rounding errors must not part ties, nor make zeros differ


class Interval(NamedTuple):
    """A mean and the ends of its interval; NaN where a single value leaves them open."""

    mean: float
    low: float
    high: float


class Band(NamedTuple):
    """A median curve and the ends of its pointwise interval; NaN where there is nothing to show."""

    median: Float[np.ndarray, " grid"]
    low: Float[np.ndarray, " grid"]
    high: Float[np.ndarray, " grid"]


class Difference(NamedTuple):
    """What the other strategy's values exceed the reference's by, over the seeds that both have."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int


def best_so_far(points: Sequence[tuple[float, float]], grid: Float[np.ndarray, " grid"]) -> Float[np.ndarray, " grid"]:
    """Returns the best fitness reached up to each place of a grid: a step function, NaN before the first fitness.

    Args:
      points: positions that do not decrease, and the fitness reached at each; NaN has none.
      grid: places in the positions' unit; a point counts at its own position.

    Raises:
      ValueError: the positions decrease.
    """
    positions = np.array([position for position, _ in points], np.float64)
    if np.any(np.diff(positions) < 0):
        raise ValueError("points must be in order: a position is smaller than the one before it")
    best = np.fmax.accumulate(np.array([np.nan, *(fitness for _, fitness in points)], np.float64))
    return best[np.searchsorted(positions, grid, side="right")]


def bootstrap_mean(values: Sequence[float]) -> Interval:
    """Returns the mean with its 95 % bootstrap interval: bias-corrected and accelerated (BCa).

    Two values have the percentile interval, and one value has none. Values that are all equal give an interval of no
    width: nothing is known of what other seeds would do.

    Args:
      values: at least one, all finite.

    Raises:
      ValueError: there is no value, or one is not finite.

    Source:
      Efron 1987, "Better bootstrap confidence intervals", JASA 82, section 2; `scipy.stats.bootstrap`.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample) or not np.all(np.isfinite(sample)):
        raise ValueError(f"cannot average {list(values)}: give at least one value, and only finite ones")
    if len(sample) == 1:
        return Interval(float(sample[0]), np.nan, np.nan)
    if np.ptp(sample) <= 10.0**-_DECIMALS * np.max(np.abs(sample)):
        return Interval(*[float(sample[0])] * 3)
    interval = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        confidence_level=LEVEL,
        method="BCa" if len(sample) >= LEAST_FOR_BCA else "percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(np.mean(sample)), float(interval.low), float(interval.high))


def repeat_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns where the mean of as many other seeds is expected with 95 %; NaN where a single value cannot tell.

    Wider than the interval of the mean, since both means are uncertain: mean +- t * s * sqrt(2 / n).

    Args:
      values: at least one, all finite; taken as draws from a normal distribution.

    Source:
      Hahn and Meeker 1991, "Statistical Intervals", chapter 4, the mean of m future observations, m = n.
    """
    n = len(values)
    if n < 2:
        return np.nan, np.nan
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) * np.sqrt(2 / n))
    middle = float(np.mean(values))
    return middle - reach, middle + reach


def band(curves: Float[np.ndarray, "seeds grid"]) -> Band:
    """Returns the median over seeds, and at each place of the grid its 95 % bootstrap percentile interval.

    The band says how well the median is known, not how far single seeds spread: it narrows with more of them. Of fewer
    than six seeds it is at most as wide as the lowest and the highest, and covers the median less often than 95 %.

    Args:
      curves: one for each seed; NaN where a seed has no value. Such a seed does not count at that place, and a place
        where only one counts has a median and no interval.

    Source:
      Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
    """
    counts = np.count_nonzero(~np.isnan(curves), axis=0)
    median, low, high = (np.full(curves.shape[1], np.nan) for _ in range(3))
    for n in np.unique(counts[counts > 0]):
        columns = counts == n
        ordered = np.sort(curves[:, columns], axis=0)[:n]  # NaN is sorted to the end
        median[columns] = np.median(ordered, axis=0)
        if n > 1:
            low[columns], high[columns] = _median_interval(ordered)
    return Band(median, low, high)


def _median_interval(ordered: Float[np.ndarray, "seeds places"]) -> Float[np.ndarray, "2 places"]:
    """A resample's median stands between two ranks of the sample: few pairs of them, drawn once for all places."""
    n = len(ordered)
    ranks = np.sort(np.random.default_rng(0).integers(n, size=(NUM_RESAMPLES, n)), axis=1)
    pairs, counts = np.unique(ranks[:, [(n - 1) // 2, n // 2]], axis=0, return_counts=True)
    medians = (ordered[pairs[:, 0]] + ordered[pairs[:, 1]]) / 2
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return np.quantile(medians, ends, axis=0, weights=counts, method="inverted_cdf")


def paired(reference: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """Returns how the other's values differ from the reference's, seed by seed: mean, interval and p-value.

    The interval is `bootstrap_mean`'s, of the differences; the p-value that of Wilcoxon's two-sided signed-rank test.

    Args:
      reference, other: values by seed; seeds that only one of them has are left out.

    Raises:
      ValueError: they have no seed in common.
    """
    seeds = sorted(reference.keys() & other.keys())
    if not seeds:
        raise ValueError("nothing can be paired: there is no common seed")
    differences = np.round([other[seed] - reference[seed] for seed in seeds], _DECIMALS)
    return Difference(*bootstrap_mean(differences.tolist()), signed_rank_p_value(differences), len(seeds))


def signed_rank_p_value(differences: Float[np.ndarray, " pairs"]) -> float:
    """Returns the exact two-sided p-value of Wilcoxon's signed-rank test, in (0, 1]; 1 where no difference is left.

    Accuracies on a small test set tie often. `scipy.stats.wilcoxon` is exact without ties and, by trying all signs,
    up to 13 pairs with them; beyond that it takes a normal approximation. Here all signs count always: the sums of
    ranks that they give are counted one rank after the other. The results are scipy's where those are exact.

    Args:
      differences: of pairs; zeros are left out, equal sizes share their mean rank.

    Source:
      Wilcoxon 1945, "Individual comparisons by ranking methods", Biometrics Bulletin 1(6).
    """
    moved = differences[differences != 0]
    ranks = np.rint(2 * stats.rankdata(np.abs(moved))).astype(int)  # doubled, since a mean rank may be a half
    shares = np.ones(1)  # of all signs, by the sum of the ranks with a plus
    for rank in ranks:
        shares = (np.pad(shares, (0, rank)) + np.pad(shares, (rank, 0))) / 2
    statistic = int(ranks[moved > 0].sum())
    tails = shares[: statistic + 1].sum(), shares[statistic:].sum()
    return float(min(1.0, 2 * min(tails)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns adjusted p-values, in the order given.

    Where those up to a level are called differences, the chance that any one of them is none is at most that level.

    Args:
      p_values: of all comparisons that are made, in [0, 1].

    Source:
      Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).
    """
    raw = np.asarray(p_values, np.float64)
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(np.arange(len(raw), 0, -1) * raw[order]))
    return adjusted.tolist()
