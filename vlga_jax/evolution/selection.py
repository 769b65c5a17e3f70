"""Selection: who survives a generation, and who becomes a parent. Pure functions of explicit keys."""

import jax
import jax.numpy as jnp

from vlga_jax.shapes import Array, Bool, Float, Int, PRNGKeyArray, assert_equal_shape


def rank(fitness: Float[Array, " population"]) -> Int[Array, " population"]:
    """Returns each individual's rank, 0 the fittest; NaN ranks last, ties keep their order."""
    comparable = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    order = jnp.argsort(-comparable, stable=True)
    return jnp.argsort(order).astype(jnp.int32)


def select_survivors(
    key: PRNGKeyArray,
    fitness: Float[Array, " population"],
    *,
    num_fit: int,
    unfit_survival_prob: float,
) -> Bool[Array, " population"]:
    """Returns who survives: the fittest always, each of the rest by chance.

    Args:
      key: consumed.
      fitness: higher is better; NaN counts as worst.
      num_fit: how many of the fittest survive for certain, in [0, population].
      unfit_survival_prob: chance of each of the others, in [0, 1], independently.

    Source:
      Xiao et al. 2020, section 3.2: 50 % and 0.2.
    """
    lucky = jax.random.bernoulli(key, unfit_survival_prob, fitness.shape)
    return (rank(fitness) < num_fit) | lucky


def parent_log_weights(
    fitness: Float[Array, " population"],
    survives: Bool[Array, " population"],
    *,
    temperature: float,
) -> Float[Array, " population"]:
    """Returns log weights with which survivors become parents, 0 for the fittest; -inf for all others.

    Args:
      fitness: NaN counts as 0, or as the least fit survivor that stopped early, which is told less than 0.
      survives: who may be a parent.
      temperature: in fitness units, above 0; weights are exp(fitness / temperature), and infinity makes them equal.

    Source:
      The report's "modified crossover" is softmax(fitness), temperature 1; Xiao et al. 2020 choose uniformly.
    """
    assert_equal_shape([fitness, survives])
    failed = jnp.isnan(fitness)
    worst = jnp.min(fitness, where=survives & ~failed, initial=0.0)
    known = jnp.where(failed, worst, fitness)
    # Relative to the fittest: float32 has no room for noise beside fitness / temperature if the temperature is small.
    best = jnp.max(known, where=survives, initial=-jnp.inf)
    return jnp.where(survives, (known - best) / temperature, -jnp.inf)


def sample_parents(
    key: PRNGKeyArray, log_weights: Float[Array, " population"]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Returns two distinct places, drawn one after the other in proportion to their weights, without replacement.

    Args:
      key: consumed.
      log_weights: unnormalised; at least two must be finite.

    Source:
      Gumbel-top-k (Kool et al. 2019, section 2): the k largest of log weight + Gumbel noise are such a sample.
    """
    noise = jax.random.gumbel(key, log_weights.shape)
    _, places = jax.lax.top_k(log_weights + noise, 2)
    return places[0], places[1]
