"""The stratified split: which examples are held out. A pure function of labels, fraction and seed."""

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
    # Raw bits, because NumPy keeps a bit generator's stream for ever but not what Generator makes of it (NEP 19).
    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    rank_in_class = np.arange(len(labels)) - np.repeat(starts, counts)
    is_held = np.empty(len(labels), bool)
    is_held[by_class] = rank_in_class < np.repeat(held, counts)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
