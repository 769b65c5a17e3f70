import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.jaxprs import equations
from tests.network.pools import reference_pool
from vlga_jax.network.pooling import pool, tuned_pool
from vlga_jax.network.spec import PoolSpec

Pool = Callable[[Any, PoolSpec], Any]
WAYS: dict[str, Pool] = {"pool": pool, "tuned": functools.partial(tuned_pool, activation="elu")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("size", [(6, 4), (5, 7), (1, 3)])
def test_pool_of_any_size_is_numpys_with_the_gradient_of_flaxs(
    way: str, kind: str, stride: int, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    out = rng.normal(size=reference_pool(x, kind, stride).shape).astype(np.float32)

    def flax_pool(x: Any) -> Any:
        if kind == "max":
            return nn.max_pool(x, (2, 2), (stride, stride), "SAME")
        return nn.avg_pool(x, (2, 2), (stride, stride), "SAME", count_include_pad=False)

    @jax.jit
    def both(x: Any, out: Any) -> Any:
        pooled, backward = jax.vjp(lambda x: WAYS[way](x, PoolSpec(kind, stride)), x)
        _, flax_backward = jax.vjp(flax_pool, x)
        return pooled, backward(out)[0], flax_backward(out)[0]

    pooled, gradient, flax_gradient = both(x, out)
    np.testing.assert_allclose(pooled, reference_pool(x, kind, stride), rtol=1e-6)
    np.testing.assert_allclose(gradient, flax_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_max_pool_of_negative_values_at_the_edge_ignores_what_is_outside(way: str) -> None:
    x = -jnp.ones((1, 3, 3, 1))
    np.testing.assert_array_equal(WAYS[way](x, PoolSpec("max", 2)), -np.ones((1, 2, 2, 1), np.float32))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_tuned_pool_is_the_same_bits_and_shares_the_gradient_of_equal_values_alike(
    kind: str, stride: int, precision: str
) -> None:
    values = np.random.default_rng(6).integers(-2, 3, (4, 7, 6, 3)).astype(np.float32)  # many are equal
    x = jnp.asarray(values, precision)

    @functools.partial(jax.jit, static_argnums=0)
    def both(way: Pool, x: Any) -> Any:
        pooled, backward = jax.vjp(lambda x: way(x, PoolSpec(kind, stride)), x)
        return pooled, backward(jnp.ones_like(pooled))[0]

    for one, other in zip(both(WAYS["tuned"], x), both(pool, x), strict=True):
        assert one.dtype == other.dtype == x.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_tuned_pool_rounds_as_the_plain_one_does(kind: str, stride: int) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4, 7, 6, 3)).astype(np.float32)
    (pooled, gradient), (expected, expected_gradient) = (
        jax.jit(functools.partial(_with_gradient, way, PoolSpec(kind, stride)))(x) for way in (WAYS["tuned"], pool)
    )
    np.testing.assert_array_equal(pooled, expected)
    if kind == "max":
        np.testing.assert_array_equal(gradient, expected_gradient)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


def _with_gradient(way: Pool, spec: PoolSpec, x: Any) -> Any:
    pooled, backward = jax.vjp(lambda x: way(x, spec), x)
    return pooled, backward(jnp.sin(pooled))[0]


@pytest.mark.parametrize(
    ("activation", "stride", "barriers"), [("relu", 1, 1), ("tanh", 1, 1), ("elu", 1, 2), ("selu", 1, 2), ("elu", 2, 1)]
)
def test_tuned_pool_of_windows_that_overlap_computes_a_costly_activation_once(
    activation: str, stride: int, barriers: int
) -> None:
    traced = jax.make_jaxpr(lambda x: tuned_pool(x, PoolSpec("average", stride), activation))(jnp.ones((1, 4, 4, 1)))
    names = [equation.primitive.name for equation in equations(traced.jaxpr)]
    assert names.count("optimization_barrier") == barriers


def test_tuned_pool_elsewhere_than_on_a_cpu_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, spec = jnp.ones((1, 4, 4, 1)), PoolSpec("average", 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    traced = jax.make_jaxpr(lambda x: tuned_pool(x, spec, "elu"))(x)
    assert str(traced) == str(jax.make_jaxpr(lambda x: pool(x, spec))(x))
