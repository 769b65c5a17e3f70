from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.network.normalisation import BatchNorm

ROUNDING = 1e-5  # of the largest value


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def made(norm: Any, *, use_running_average: bool) -> Any:
    return norm(use_running_average=use_running_average, momentum=0.9, epsilon=1e-5)


def some_variables(channels: int) -> dict[str, Any]:
    return {
        "params": {"scale": 1 + 0.3 * normal(1, channels), "bias": normal(2, channels)},
        "batch_stats": {"mean": normal(3, channels), "var": jnp.exp(normal(4, channels))},
    }


def outputs_and_gradients(norm: Any, x: jax.Array) -> Any:
    """The outputs, the running statistics afterwards, and the gradients of inputs and parameters."""
    variables = some_variables(x.shape[-1])

    def apply(x: jax.Array, params: Any) -> Any:
        module = made(norm, use_running_average=False)
        return module.apply({**variables, "params": params}, x, mutable=["batch_stats"])

    @jax.jit  # operation by operation each is a program of its own
    def compute(x: jax.Array, params: Any) -> Any:
        outputs, pull, updated = jax.vjp(apply, x, params, has_aux=True)
        gradient = jnp.cos(jnp.arange(outputs.size, dtype=jnp.float32)).reshape(outputs.shape)
        return outputs, updated, pull(gradient.astype(jnp.bfloat16).astype(outputs.dtype))  # exact in both precisions

    return compute(x, variables["params"])


@pytest.mark.parametrize("shape", [(256, 8, 8, 32), (7, 5, 3, 1), (4, 1, 1, 512), (2, 32, 32, 3)])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_training_equals_flax(shape: tuple[int, ...], shift: float) -> None:
    x = 2 * normal(0, *shape) + shift
    ours, flax = outputs_and_gradients(BatchNorm, x), outputs_and_gradients(nn.BatchNorm, x)
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, flax)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(flax), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDING * float(jnp.abs(b).max()))


def test_inference_equals_flax() -> None:
    x, variables = normal(0, 8, 4, 4, 16), some_variables(16)
    ours, flax = (made(norm, use_running_average=True).apply(variables, x) for norm in (BatchNorm, nn.BatchNorm))
    np.testing.assert_allclose(ours, flax, rtol=0, atol=ROUNDING * float(jnp.abs(flax).max()))


def test_gradient_is_that_of_finite_differences() -> None:
    with jax.enable_x64(True):
        x, variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (normal(0, 3, 2, 2, 2), some_variables(2)))
        weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float64)).reshape(x.shape)

        @jax.jit
        def loss(x: jax.Array) -> jax.Array:
            module = made(BatchNorm, use_running_average=False)
            return (module.apply(variables, x, mutable=["batch_stats"])[0] * weights).sum()

        gradient, step = jax.grad(loss)(x), 1e-5
        for place in np.ndindex(*x.shape):
            rise = (loss(x.at[place].add(step)) - loss(x.at[place].add(-step))) / (2 * step)
            np.testing.assert_allclose(gradient[place], rise, atol=1e-7)


def test_a_constant_channel_gives_the_bias_and_finite_gradients() -> None:
    x = jnp.concatenate([jnp.full((4, 3, 3, 1), 7.0), normal(0, 4, 3, 3, 1)], axis=-1)
    outputs, updated, gradients = outputs_and_gradients(BatchNorm, x)
    np.testing.assert_allclose(outputs[..., 0], some_variables(2)["params"]["bias"][0], atol=1e-2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updated, gradients)))
    assert updated["batch_stats"]["var"][0] >= 0


def test_bfloat16_activations_are_normalised_in_float32() -> None:
    x = (2 * normal(0, 64, 4, 4, 8) + 3).astype(jnp.bfloat16)
    outputs, updated, (d_x, d_params) = outputs_and_gradients(BatchNorm, x)
    exact, exact_updated, (exact_d_x, exact_d_params) = outputs_and_gradients(BatchNorm, x.astype(jnp.float32))
    assert (outputs.dtype, d_x.dtype) == (jnp.bfloat16, jnp.bfloat16)
    np.testing.assert_allclose(outputs.astype(jnp.float32), exact, rtol=0.01, atol=1e-3)
    for a, b in zip(jax.tree.leaves(updated), jax.tree.leaves(exact_updated), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(d_x.astype(jnp.float32), exact_d_x, atol=0.02 * float(jnp.abs(exact_d_x).max()))
    for name, exact_d in exact_d_params.items():
        np.testing.assert_allclose(d_params[name], exact_d, rtol=0, atol=0.02 * float(jnp.abs(exact_d).max()))
