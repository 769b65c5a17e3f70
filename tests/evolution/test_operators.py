import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.evolution.operators import operator


@operator("count")
def draws(key: jax.Array, scale: float, count: int) -> jax.Array:
    """Says what it draws."""
    return scale * jax.random.uniform(key, (count,))


def test_operator_gives_the_same_under_vmap_and_without_its_compilation_under_jit() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    alone = np.stack([draws(key, 2.0, count=4) for key in keys])
    np.testing.assert_array_equal(jax.vmap(lambda key: draws(key, 2.0, count=4))(keys), alone)
    within = inspect.unwrap(draws)
    np.testing.assert_array_equal(jax.jit(jax.vmap(lambda key: within(key, 2.0, count=4)))(keys), alone)
    assert draws.__doc__ == "Says what it draws."


@pytest.mark.parametrize("argument", [True, False])
def test_operator_within_another_jit_raises(argument: bool) -> None:
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="can only be passed to top-level"):
        jax.jit(lambda own: draws(own if argument else key, 2.0, count=4))(key)


def test_operator_is_compiled_once_for_each_shape_and_quickly_on_a_cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    traced, options, jit = [], [], jax.jit

    def noting(function: Any, *, static_argnames: Any, compiler_options: Any) -> Any:
        options.append(compiler_options)
        return jit(function, static_argnames=static_argnames, compiler_options=compiler_options)

    monkeypatch.setattr(jax, "jit", noting)

    @operator()
    def double(x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return 2 * x

    for size in (2, 3, 2):
        double(jnp.zeros(size))
    assert traced == [(2,), (3,)]
    assert options == [{"xla_backend_optimization_level": 0}]

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    operator()(jnp.sin)(jnp.zeros(2))
    assert options[1:] == [None]
