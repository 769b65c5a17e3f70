"""Which examples are held out, which make a part, in which order. Pure functions of labels, size and seed."""

import numpy as np


def stratified_indices(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices kept and those held out, both ascending.

    Every class is held out in its share, within one example. A class of two or more has at least one example on either
    side; a class of one stays in the kept part.

    Args:
      labels: int [num_examples], at least 0.
      fraction: share held out, in (0, 1).
      seed: at least 0; the same seed gives the same split on every machine and version of NumPy.
    """
    counts = np.bincount(labels)
    shares = fraction * counts
    least, most = np.minimum(1, np.maximum(counts - 1, 0)), np.maximum(counts - 1, 0)
    held = np.clip(np.floor(shares).astype(np.int64), least, most)
    # Largest remainders take what rounding down left over, so that the total is right too.
    missing = max(round(fraction * len(labels)) - int(held.sum()), 0)
    can_grow = np.flatnonzero((held < shares) & (held < most))
    by_remainder = can_grow[np.argsort(held[can_grow] - shares[can_grow], kind="stable")]
    held[by_remainder[:missing]] += 1
    is_held = _ranks(labels, counts, seed) < held[labels]
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def stratified_part(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Returns the indices of a part, ascending: every class in its share, and at least one example of each.

    A larger part with the same seed holds all of a smaller one.

    Args:
      labels: int [num_examples], at least 0.
      size: of the part; at least the number of classes that the labels name, at most that of the examples.
      seed: as for `stratified_indices`.
    """
    counts = np.bincount(labels)
    ranks = _ranks(labels, counts, seed)
    places = np.where(ranks == 0, 0, (ranks + 0.5) / counts[labels])  # of a class with two examples 0 and 3/4
    return np.sort(np.argsort(places, kind="stable")[:size])


def permutation(count: int, seed: int) -> np.ndarray:
    """Returns the indices from 0 to `count` less one in a random order, the same one for ever.

    Args:
      count: how many.
      seed: at least 0.
    """
    # Raw bits, because NumPy keeps a bit generator's stream for ever but not what Generator makes of it (NEP 19).
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def _ranks(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Each example's place in its class, from 0, shuffled; `counts` are the classes' sizes."""
    order = permutation(len(labels), seed)
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), np.int64)
    ranks[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    return ranks
