"""Sizes by hand, and the least of the limits that hold."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.training import memory


def test_tree_bytes_of_arrays_and_shapes_by_hand() -> None:
    tree = {"a": np.zeros((3, 5), np.float32), "b": [jax.ShapeDtypeStruct((7,), jnp.uint8), jnp.zeros((), jnp.int32)]}
    assert memory.tree_bytes(tree) == 3 * 5 * 4 + 7 + 4
    assert memory.tree_bytes({}) == 0


def test_tree_bytes_beyond_64_bits_does_not_overflow() -> None:
    shape = jax.ShapeDtypeStruct((1 << 31, 1 << 31, 8), jnp.float32)
    assert memory.tree_bytes([shape]) == 1 << 67


@pytest.mark.parametrize(("donated", "expected"), [((), 2 * 4096), ((0,), 4096)])
def test_program_bytes_counts_arguments_and_results_and_shared_buffers_once(
    donated: tuple[int, ...], expected: int
) -> None:
    values = jax.ShapeDtypeStruct((1024,), jnp.float32)
    compiled = jax.jit(lambda x: x + 1, donate_argnums=donated).lower(values).compile()
    assert memory.program_bytes(compiled) == expected


def test_program_bytes_counts_what_a_program_holds_meanwhile() -> None:
    values = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    compiled = jax.jit(lambda x: jnp.sort(x, axis=0) @ x).lower(values).compile()
    assert memory.program_bytes(compiled) >= 3 * 512 * 512 * 4  # x, x sorted and the product


def test_program_bytes_of_a_program_that_tells_nothing_is_zero() -> None:
    class Silent:
        def memory_analysis(self) -> None:
            return None

    assert memory.program_bytes(Silent()) == 0


PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], PHYSICAL),
        (["max\n"], PHYSICAL),
        (["9223372036854771712\n"], PHYSICAL),  # version 1's way of saying that there is no limit
        (["1000000\n"], 1_000_000),
        (["max\n", "2000000\n"], 2_000_000),
    ],
)
def test_host_bytes_is_the_least_of_the_machines_and_the_containers(
    texts: list[str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / str(place) for place in range(2)]
    for path, text in zip(paths, texts, strict=False):
        path.write_text(text)
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", tuple(paths))
    assert memory.host_bytes.__wrapped__() == expected


def test_total_bytes_without_a_device_of_its_own_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "host_bytes", lambda: 12345)
    assert jax.default_backend() != "cpu" or memory.total_bytes() == 12345
