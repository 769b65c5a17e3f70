"""Variation: mutation and crossover of one row of genes or one pair. `jax.vmap` lifts them to a population."""

import jax
import jax.numpy as jnp

from vlga_jax.shapes import Array, Bool, Int, PRNGKeyArray, assert_equal_shape

Genes = Int[Array, " genes"]


def mutate(key: PRNGKeyArray, genes: Genes, num_choices: Int[Array, " genes"], free: Bool[Array, " genes"]) -> Genes:
    """Returns the genes with exactly one free gene, chosen uniformly, set to another of its choices.

    Args:
      key: consumed.
      genes: choice indices.
      num_choices: cardinalities; a free gene has at least 2.
      free: which genes may change; if none may, the genes come back as they are.

    Source:
      Xiao et al. 2020, section 3.2. The sources redraw among all choices, so that a mutation can leave the chromosome
      as it was; here the old choice is left out.
    """
    assert_equal_shape([genes, num_choices, free])
    key_gene, key_step = jax.random.split(key)
    chosen = jax.random.categorical(key_gene, jnp.where(free, 0.0, -jnp.inf))
    step = jax.random.randint(key_step, (), 1, jnp.maximum(num_choices[chosen], 2))
    redrawn = (genes[chosen] + step) % num_choices[chosen]
    return jnp.where(free.any(), genes.at[chosen].set(redrawn), genes)


def uniform_crossover(key: PRNGKeyArray, parent_a: Genes, parent_b: Genes, free: Bool[Array, " genes"]) -> Genes:
    """Returns an offspring that takes each gene from one of two parents, with equal chance.

    Args:
      key: consumed.
      parent_a, parent_b: choice indices.
      free: genes that may differ; the others come from `parent_a`.

    Source:
      Xiao et al. 2020, section 3.2.
    """
    assert_equal_shape([parent_a, parent_b, free])
    from_b = jax.random.bernoulli(key, 0.5, parent_a.shape)
    return jnp.where(from_b & free, parent_b, parent_a)


def single_point_crossover(key: PRNGKeyArray, parent_a: Genes, parent_b: Genes, free: Bool[Array, " genes"]) -> Genes:
    """Returns an offspring that has `parent_a`'s free genes before a cut and `parent_b`'s from it on.

    Args:
      key: consumed.
      parent_a, parent_b: choice indices.
      free: the genes among which the cut is drawn; both parents give at least one if there are two or more.

    Source:
      The report code: one cut, one child.
    """
    assert_equal_shape([parent_a, parent_b, free])
    place = jnp.cumsum(free) - 1  # of each free gene among the free ones
    cut = jax.random.randint(key, (), 1, jnp.maximum(free.sum(), 2))
    return jnp.where(free & (place >= cut), parent_b, parent_a)
