import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments import default
from vlga_jax.network import convolution, onednn
from vlga_jax.network.convolution import mixed, tuned, weight_gradient
from vlga_jax.training import compiler

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
SPACE = default.get_config().space
ROUNDING = 1e-5  # of the largest value


def plain(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1)) -> jax.Array:
    return lax.conv_general_dilated(inputs, kernel, strides, "SAME", dimension_numbers=DIMENSIONS)


def ours(inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1)) -> jax.Array:
    return tuned(inputs, kernel, strides, "SAME", dimension_numbers=DIMENSIONS)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def outputs_and_gradients(convolve: Any, *arguments: Any) -> tuple[jax.Array, ...]:
    inputs, kernel, *rest = arguments
    outputs, pull = jax.vjp(lambda inputs, kernel: convolve(inputs, kernel, *rest), inputs, kernel)
    channel = lax.broadcasted_iota(jnp.float32, outputs.shape, 3)
    pixel = jnp.arange(outputs[..., 0].size, dtype=jnp.float32).reshape(*outputs.shape[:-1], 1)
    wave = jnp.cos(pixel + 4096 * channel)  # of each channel the same, however many there are; of whole numbers
    return outputs, *pull(wave)


def all_of(convolve: Any, pairs: list[tuple[Any, ...]]) -> Any:
    """All outputs and gradients by one function of the arrays; the pairs tell what else convolutions take."""
    return lambda arrays: [
        outputs_and_gradients(convolve, *own, *pair[2:]) for own, pair in zip(arrays, pairs, strict=True)
    ]


def by_lax(pairs: list[tuple[Any, ...]]) -> list[tuple[np.ndarray, ...]]:
    """Outputs, input gradient and kernel gradient of each pair of inputs and kernel, and what else lax takes."""
    arrays = [pair[:2] for pair in pairs]
    compiled = jax.jit(all_of(plain, pairs)).lower(arrays).compile({"xla_backend_optimization_level": 0})
    return jax.device_get(compiled(arrays))


def by_lax_of_channels(
    images: np.ndarray, kernels: np.ndarray, channels: list[tuple[int, int]]
) -> list[tuple[np.ndarray, ...]]:
    """The same of the leading channels, so many of the images and of the outputs, of two arrays.

    All are slices of a few: an output channel knows nothing of the others, nor the gradient of an input channel, and
    that of a kernel between two channels nothing of other pairs.
    """
    most_out = {a: max(b for other, b in channels if other == a) for a, _ in channels}
    most_in = {b: max(a for a, other in channels if other == b) for _, b in channels}
    widest = [*{*most_out.items(), *((a, b) for b, a in most_in.items())}]
    found = dict(zip(widest, by_lax([(images[..., :a], kernels[:, :, :a, :b]) for a, b in widest]), strict=True))
    parts = ((found[a, most_out[a]], found[most_in[b], b][1][..., :a], b) for a, b in channels)
    return [(outputs[..., :b], of_inputs, of_kernel[..., :b]) for (outputs, _, of_kernel), of_inputs, b in parts]


def differences(pairs: list[tuple[Any, ...]], expected: list[tuple[np.ndarray, ...]] | None = None) -> np.ndarray:
    """The largest differences of outputs, input gradient and kernel gradient, relative to the largest values.

    One row for each pair, as `by_lax` takes and gives them; twice, because ours are computed with oneDNN, where it is,
    and without.
    """
    arrays = [pair[:2] for pair in pairs]
    expected = by_lax(pairs) if expected is None else expected
    found = []
    for without in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if without:
                no_onednn(patch)
            lowered = jax.jit(all_of(lambda *arguments: ours(*arguments), pairs)).lower(arrays)
        assert not without or "onednn" not in lowered.as_text()
        options = compiler.options("tuned")
        if without:
            options = {**options, "xla_backend_optimization_level": 0}  # takes two thirds as long to compile
        found.append(jax.device_get(lowered.compile(options)(arrays)))
    return np.array(
        [
            [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(*row, strict=True)]
            for one in found
            for row in zip(one, expected, strict=True)
        ]
    )


def assert_equal_lax(cases: dict[tuple[int, int], tuple[Any, ...]]) -> None:
    """Asserts that named pairs, as `differences` takes them, differ by rounding; else says which by how much."""
    worst = differences(list(cases.values())).max(axis=1).reshape(2, -1)  # with oneDNN and without
    assert (worst < ROUNDING).all(), dict(zip(cases, worst.T.tolist(), strict=True))


def no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "available", lambda: False)


def in_chunks_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a batch twice as large goes through two chunks, however small and narrow it is."""
    monkeypatch.setattr(convolution, "_WHOLE_BYTES", 1)
    monkeypatch.setattr(convolution, "_CHUNK_IMAGES", (size, size))
    monkeypatch.setattr(convolution, "_CHUNK_IMAGES_NARROW", size)


@pytest.mark.parametrize("side", SPACE.kernels)
def test_tuned_asks_onednn_for_outputs_and_both_gradients(side: int) -> None:
    lowered = jax.jit(lambda *arrays: outputs_and_gradients(ours, *arrays)).lower(
        normal(0, 16, 2, 4, 8), normal(1, side, side, 8, 16)
    )
    calls = [lowered.as_text().count(f"@vlga_onednn_{name}") for name in ("convolution", "weight_gradient")]
    assert calls == ([2, 1] if onednn.available() else [0, 0])


@pytest.mark.parametrize("side", SPACE.kernels)
def test_tuned_of_the_genes_choices_equals_lax(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = 8 if side == 1 else 4  # products of 64 parts need more than 64 pixels
    in_chunks_of(chunk, monkeypatch)
    pairs = list(itertools.product((1, 3, *SPACE.channels), SPACE.channels))
    if side > 3:  # wide kernels of many channels take minutes, and nothing else than those of 64 by 64
        pairs = [(a, b) for a, b in pairs if a * b <= 64 * 64]

    images, kernels = normal(0, 2 * chunk, 2, 4, max(SPACE.channels)), normal(1, side, side, *[max(SPACE.channels)] * 2)
    images, kernels = jax.device_get((images, kernels))  # whose slices need no programs
    expected = by_lax_of_channels(images, kernels, pairs)
    worst = differences([(images[..., :a], kernels[:, :, :a, :b]) for a, b in pairs], expected)
    assert worst.shape == (2 * len(pairs), 3)
    assert worst.max() < ROUNDING


@pytest.mark.parametrize("side", [side for side in SPACE.kernels if side > 1])
def test_tuned_equals_lax_where_every_tap_meets_the_image(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_chunks_of(8, monkeypatch)
    channels = [(3, 8), (8, 8), (8, 16), (16, 8), (16, 16), (32, 16), (16, 32)]
    assert_equal_lax(
        {(a, b): (normal(0, 16, 11, 16, a), normal(1, side, side, a, b) / np.sqrt(a)) for a, b in channels}
    )


@pytest.mark.parametrize("side", [side for side in SPACE.kernels if side > 1])
def test_tuned_equals_lax_where_the_kernel_is_wider_than_the_map(side: int) -> None:
    maps = [(1, 1), (2, 2), (2, 7), (4, 4), (5, 3), (6, 16), (8, 8), (16, 4)]
    kernel = normal(1, side, side, 8, 16) / np.sqrt(8)
    assert_equal_lax({size: (normal(0, 16, *size, 8), kernel) for size in maps})


def test_xla_does_not_take_back_what_makes_a_map_as_wide_as_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    no_onednn(monkeypatch)
    compiled = jax.jit(ours).lower(normal(0, 16, 8, 8, 8), normal(1, 9, 9, 8, 32)).compile().as_text() or ""
    assert "size=9x9 pad=3_3x3_3" in compiled and "pad=4_4" not in compiled


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_tuned_with_a_stride_equals_lax(side: int, stride: int) -> None:
    maps = [(1, 1), (1, 5), (4, 4), (5, 4), (8, 6), (9, 7)]
    kernel, strides = normal(1, side, side, 3, 8), (stride, stride)
    cases = {size: (normal(0, 8, *size, 3), kernel, strides) for size in maps}
    for *arrays, _ in cases.values():
        made = [jax.eval_shape(functools.partial(each, strides=strides), *arrays).shape for each in (ours, plain)]
        assert made[0] == made[1]
    assert_equal_lax(cases)


@pytest.mark.parametrize("convolve", [ours, plain])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
def test_1x1_with_a_stride_takes_the_pixels_at_its_multiples(stride: int, convolve: Any) -> None:
    for size in range(1, 10):
        images = normal(size, 2, size, 10 - size, 3)
        copied = convolve(images, jnp.eye(3)[None, None], (stride, stride))
        np.testing.assert_array_equal(copied, images[:, ::stride, ::stride])


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (2, 3), (3, 1), (3, 3)])
def test_every_stride_that_reaches_over_the_map_gives_the_same_pixel(side: int, height: int, width: int) -> None:
    images, kernel = normal(0, 2, height, width, 3), normal(1, side, side, 3, 4)
    expected = ours(images, kernel, (max(height, width),) * 2)
    assert expected.shape == (2, 1, 1, 4)
    np.testing.assert_allclose(ours(images, kernel, (4, 4)), expected, rtol=1e-6)


def test_tuned_1x1_with_a_stride_needs_no_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    no_onednn(monkeypatch)

    def total(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return ours(images, kernel, (2, 2)).sum()

    jaxpr = str(jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(normal(0, 2, 5, 4, 3), normal(1, 1, 1, 3, 8)))
    assert "dot_general" in jaxpr
    assert "scatter" not in jaxpr, "whose order of adding is open on a GPU"


@pytest.mark.parametrize("batch", [1, 7, 13, 16, 60, 256])
@pytest.mark.parametrize("without", [False, True])
def test_weight_gradient_of_any_batch_equals_lax(batch: int, without: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if without:
        no_onednn(monkeypatch)
    monkeypatch.setattr(convolution, "_WHOLE_BYTES", 10 * 4 * 5 * 5 * 16)
    images, gradient = normal(0, batch, 5, 5, 8), normal(1, batch, 5, 5, 16)
    _, pull = jax.vjp(lambda kernel: plain(images, kernel), jnp.zeros((3, 3, 8, 16)))
    (expected,) = pull(gradient)
    for sliding, fixed, turn in ((images, gradient, False), (gradient, images, True)):
        found = weight_gradient(sliding, fixed, 3)
        found = jnp.swapaxes(found[::-1, ::-1], 2, 3) if turn else found
        np.testing.assert_allclose(found, expected, atol=ROUNDING * float(jnp.abs(expected).max()))


def rounded(x: jax.Array) -> jax.Array:
    """On the host, because XLA may leave such a rounding out."""
    return jnp.asarray(np.asarray(x).astype(jnp.bfloat16).astype(np.float32))


@pytest.mark.skipif(not onednn.computes_bfloat16(), reason="needs oneDNN and a processor that multiplies bfloat16")
@pytest.mark.parametrize("side", SPACE.kernels)
@pytest.mark.parametrize(("channels", "out_channels"), [(1, 8), (3, 64), (8, 8), (16, 32), (64, 16), (128, 64)])
def test_mixed_equals_lax_of_rounded_operands(side: int, channels: int, out_channels: int) -> None:
    images = normal(0, 16, 7, 9, channels)
    kernel = normal(1, side, side, channels, out_channels) / np.sqrt(channels)
    cotangent = normal(2, 16, 7, 9, out_channels)

    def both(convolve: Any, *arrays: Any) -> Any:
        images, kernel, cotangent = arrays
        outputs, pull = jax.vjp(convolve, images, kernel)
        return outputs, *pull(cotangent)

    found = jax.jit(lambda *arrays: both(lambda x, k: mixed(x, k, (1, 1), "SAME"), *arrays))(images, kernel, cotangent)
    expected = jax.jit(lambda *arrays: both(plain, *arrays))(*map(rounded, (images, kernel, cotangent)))
    exact = jax.jit(lambda *arrays: both(plain, *arrays))(images, kernel, cotangent)
    for own, by_lax, unrounded in zip(found, expected, exact, strict=True):
        assert own.dtype == jnp.float32
        largest = float(jnp.abs(by_lax).max())
        np.testing.assert_allclose(own, by_lax, rtol=0, atol=ROUNDING * largest)
        assert float(jnp.abs(unrounded - by_lax).max()) > 10 * ROUNDING * largest, "operands are rounded"


@pytest.mark.parametrize(("side", "stride"), [(3, 2), (5, 3), *([(1, 2)] if onednn.computes_bfloat16() else [])])
def test_mixed_with_a_stride_rounds_its_operands_too(side: int, stride: int) -> None:
    images, kernel = normal(0, 8, 7, 9, 3), normal(1, side, side, 3, 8)
    found = mixed(images, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS)
    np.testing.assert_allclose(found, plain(rounded(images), rounded(kernel), (stride, stride)), rtol=1e-5, atol=1e-5)
    assert (found != plain(images, kernel, (stride, stride))).any()


def test_chunks_divide_the_batch_and_fit_the_cache() -> None:
    assert convolution._chunk_size((256, 32, 32, 32)) == 16
    assert convolution._chunk_size((256, 32, 32, 8)) == 32
    assert convolution._chunk_size((256, 4, 4, 8)) == 256, "small enough whole"
    assert convolution._chunk_size((254, 32, 32, 32)) == 254, "no divisor from 8 to 16"
    assert convolution._chunk_size((250, 32, 32, 16)) == 10


def test_tuned_on_another_backend_is_lax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jaxpr = jax.make_jaxpr(ours)(jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 1, 3, 8)))
    assert [equation.primitive for equation in jaxpr.eqns] == [lax.conv_general_dilated_p]
