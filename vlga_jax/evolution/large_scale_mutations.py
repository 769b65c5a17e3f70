"""Mutations of large-scale evolution: each makes, of a trained network, a child that differs from it in one way.

Real et al. 2017, "Large-Scale Evolution of Image Classifiers" (arXiv 1703.01041), section 3.2, over chains of blocks of
one convolution instead of graphs of layers. A mutation is a function of key, parent and space that returns the child,
or None if the parent has nothing that it could change.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.genome.space import Choice, SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import PRNGKeyArray

MAX_DOUBLINGS = 10
"""A learning rate's factor lies within 2**-10 and 2**10."""


@dataclasses.dataclass(frozen=True)
class Individual:
    """A network and how it is trained.

    Attributes:
      activation: choice index, the same in all rows; kept here because a network may have none.
      rows: choice indices `[genes]` of each block, in the order of the space; a block is one convolution.
      learning_rate_factor: of the recipe's learning rate.
      sources: for each row, its parent's row whose weights it starts from; None where it is new. None instead of a
        tuple: the network starts afresh.
    """

    activation: int
    rows: tuple[tuple[int, ...], ...] = ()
    learning_rate_factor: float = 1.0
    sources: tuple[int | None, ...] | None = None

    def chromosome(self, space: SearchSpace) -> Chromosome:
        """Returns its genes; no blocks where it has no convolutions."""
        return Chromosome(np.array(self.rows, np.int32).reshape(-1, space.num_genes))


Mutation = Callable[[PRNGKeyArray, Individual, SearchSpace], Individual | None]


def make_initial(key: PRNGKeyArray, space: SearchSpace) -> Individual:
    """Returns a network without convolutions, its activation drawn uniformly; `key` is consumed."""
    activations = range(len(_choices(space, "activation")))
    return Individual(_pick(stream(key, "activation"), activations))


def alter_learning_rate(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual:
    """Returns the child with a factor drawn log-uniformly between half and twice the parent's, to six digits.

    Within the bounds of all factors: at a bound only the half that is inside is drawn from.
    """
    exponent = math.log2(parent.learning_rate_factor)
    low, high = max(exponent - 1, -MAX_DOUBLINGS), min(exponent + 1, MAX_DOUBLINGS)
    share = float(jax.random.uniform(stream(key, "learning_rate")))
    rounded = float(f"{2.0 ** (low + share * (high - low)):.6g}")  # so that JSON is the same on every machine
    factor = min(max(rounded, 2.0**-MAX_DOUBLINGS), 2.0**MAX_DOUBLINGS)
    return dataclasses.replace(parent, learning_rate_factor=factor, sources=_all(parent))


def identity(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual:
    """Returns the parent's network, to be trained further."""
    return dataclasses.replace(parent, sources=_all(parent))


def reset_weights(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual:
    """Returns the parent's network, to be trained from fresh weights.

    A request names its randomness, so the fresh weights are the same each time: of a parent that inherited nothing the
    child is its equal, and is not trained again. The paper draws anew.
    """
    return dataclasses.replace(parent, sources=None)


def insert_convolution(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual:
    """Returns the child with a 3x3 convolution more, of as many channels as come in, at a random place.

    Before the first block, of the fewest channels. Stride and batch normalisation are drawn uniformly, there is no
    skip; where the space lacks a value, the choice nearest to it. Here the activation follows in any case, in the paper
    only together with batch normalisation.
    """
    stride = _pick(stream(key, "stride"), _choices(space, "a_stride"))
    batch_norm = _pick(stream(key, "batch_norm"), _choices(space, "a_batch_norm"))
    return _insert(stream(key, "place"), parent, space, {"a_kernel": 3, "a_stride": stride, "a_batch_norm": batch_norm})


def remove_convolution(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual | None:
    """Returns the child without one of the convolutions; not of a network without any."""
    if not parent.rows:
        return None
    gone = _pick(stream(key, "block"), range(len(parent.rows)))
    kept = tuple(block for block in _all(parent) if block != gone)
    return dataclasses.replace(parent, rows=tuple(parent.rows[block] for block in kept), sources=kept)


def alter_stride(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual | None:
    """Returns the child with the next smaller or larger stride in one block; not where there is but one."""
    return _alter(key, parent, space, "a_stride")


def alter_channels(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual | None:
    """Returns the child with the next smaller or larger number of channels in one block; not where there is but one.

    In the paper any number between half and twice the old one.
    """
    return _alter(key, parent, space, "a_channels")


def alter_kernel(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual | None:
    """Returns the child with the next smaller or larger kernel in one block; not where there is but one.

    In the paper width and height change one at a time; kernels are square here.
    """
    return _alter(key, parent, space, "a_kernel")


def insert_one_to_one(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual:
    """Returns the child with a 1x1 convolution more, of as many channels as come in, at a random place.

    Before the first block, of the fewest channels. Stride 1, no batch normalisation, no skip; where the space lacks a
    value, the choice nearest to it. The paper inserts an identity edge, for which this genome has no word: this is the
    smallest layer that it has.
    """
    return _insert(stream(key, "place"), parent, space, {"a_kernel": 1, "a_stride": 1, "a_batch_norm": False})


def add_skip(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual | None:
    """Returns the child with a skip over one of the blocks without; not where all have one.

    The paper connects any two layers; here a skip spans a block.
    """
    return _set_skip(key, parent, space, True)


def remove_skip(key: PRNGKeyArray, parent: Individual, space: SearchSpace) -> Individual | None:
    """Returns the child without the skip of one of the blocks with; not where none has one."""
    return _set_skip(key, parent, space, False)


MUTATIONS: tuple[Mutation, ...] = (
    alter_learning_rate,
    identity,
    reset_weights,
    insert_convolution,
    remove_convolution,
    alter_stride,
    alter_channels,
    alter_kernel,
    insert_one_to_one,
    add_skip,
    remove_skip,
)
GROWING: tuple[Mutation, ...] = (insert_convolution, insert_one_to_one)


def mutate(key: PRNGKeyArray, parent: Individual, space: SearchSpace, *, max_convolutions: int) -> Individual:
    """Returns a child by one mutation, drawn uniformly among those that the parent allows.

    Args:
      key: consumed.
      parent: of at most `max_convolutions`.
      space: with False among the choices of include_b and include_pool.
      max_convolutions: of the child.

    Source:
      Real et al. 2017, section 3.2. Networks are not bounded there.
    """
    full = len(parent.rows) >= max_convolutions
    # The first that can be applied in a random order is as likely each of those that can.
    for place in np.asarray(jax.random.permutation(stream(key, "order"), len(MUTATIONS))).tolist():
        mutation = MUTATIONS[place]
        if full and mutation in GROWING:
            continue
        child = mutation(stream(key, "mutation", place), parent, space)
        if child is not None:
            return child
    raise AssertionError("identity can always be applied")


def _all(parent: Individual) -> tuple[int, ...]:
    return tuple(range(len(parent.rows)))


def _pick[T](key: PRNGKeyArray, options: Sequence[T]) -> T:
    return options[int(jax.random.randint(key, (), 0, len(options)))]


def _place(space: SearchSpace, name: str) -> int:
    return next(place for place, gene in enumerate(space.genes) if gene.name == name)


def _choices(space: SearchSpace, name: str) -> tuple[Choice, ...]:
    return space.genes[_place(space, name)].choices


def _nearest(choices: Sequence[Choice], wanted: Choice) -> int:
    """Place of the choice nearest to a number or truth value; the smaller one of two."""
    return min(
        range(len(choices)), key=lambda place: (abs(float(choices[place]) - float(wanted)), float(choices[place]))
    )


def _insert(key: PRNGKeyArray, parent: Individual, space: SearchSpace, values: dict[str, Choice]) -> Individual:
    block = _pick(key, range(len(parent.rows) + 1))
    channels = _choices(space, "a_channels")
    # How many an image has is not known here; nearest to none is the smallest choice.
    incoming = channels[parent.rows[block - 1][_place(space, "a_channels")]] if block else 0
    nothing: dict[str, Choice] = {"include_pool": False, "include_b": False, "include_skip": False, "dropout_rate": 0.0}
    wanted = nothing | {"a_channels": incoming} | values
    row = [_nearest(gene.choices, wanted[gene.name]) if gene.name in wanted else 0 for gene in space.genes]
    row[_place(space, "activation")] = parent.activation
    kept = _all(parent)
    return dataclasses.replace(
        parent,
        rows=(*parent.rows[:block], tuple(row), *parent.rows[block:]),
        sources=(*kept[:block], None, *kept[block:]),
    )


def _alter(key: PRNGKeyArray, parent: Individual, space: SearchSpace, name: str) -> Individual | None:
    """The child with a neighbour, in the order of size, of one block's choice."""
    choices = _choices(space, name)
    if not parent.rows or len(choices) == 1:
        return None
    block = _pick(stream(key, "block"), range(len(parent.rows)))
    by_size = sorted(range(len(choices)), key=lambda place: float(choices[place]))
    rank = by_size.index(parent.rows[block][_place(space, name)])
    neighbours = by_size[max(rank - 1, 0) : rank] + by_size[rank + 1 : rank + 2]
    return _with_choice(parent, block, _place(space, name), _pick(stream(key, "choice"), neighbours))


def _set_skip(key: PRNGKeyArray, parent: Individual, space: SearchSpace, skip: bool) -> Individual | None:
    gene, choices = _place(space, "include_skip"), _choices(space, "include_skip")
    others = [block for block, row in enumerate(parent.rows) if choices[row[gene]] != skip]
    if not others or skip not in choices:
        return None
    return _with_choice(parent, _pick(stream(key, "block"), others), gene, choices.index(skip))


def _with_choice(parent: Individual, block: int, gene: int, choice: int) -> Individual:
    row = (*parent.rows[block][:gene], choice, *parent.rows[block][gene + 1 :])
    rows = (*parent.rows[:block], row, *parent.rows[block + 1 :])
    return dataclasses.replace(parent, rows=rows, sources=_all(parent))
