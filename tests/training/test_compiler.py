"""Options of the compiler; that networks keep their bits whatever the number of threads."""

import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from vlga_jax.training import compiler

STEPS = """
import hashlib
import jax, numpy as np
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training import compiler, programs
from vlga_jax.training.step import Batch, Recipe

assert compiler.has_onednn()
blocks = (
    BlockSpec(ConvSpec(8, 1, True), PoolSpec("max", 2), ConvSpec(16, 1, True), True, 0.0),
    BlockSpec(ConvSpec(16, 9, False), PoolSpec("average", 2), ConvSpec(32, 3, True), True, 0.0),
)
recipe = Recipe(
    epochs=99, batch_size=256, optimizer="adam", learning_rate=1e-3, schedule="constant", warmup_epochs=0,
    weight_decay=0.0, label_smoothing=0.0, flip=False, crop_padding=0, precision="float32",
)
plan = programs.Plan(NetworkSpec((32, 32, 3), 10, "elu", "average", blocks), recipe, 0, 256, "uint8", False)
assert plan.flops >= compiler._WORTH_FLOPS
rng = np.random.default_rng(0)
batch = Batch(rng.integers(0, 256, (256, 32, 32, 3), np.uint8), rng.integers(0, 10, 256).astype(np.int32))
state = plan.packing.packed(plan.initial_state(initialise(jax.random.key(0), plan.spec)))
train = programs.build(plan).train
assert "__onednn$convolution" in train.gradient.as_text()
for _ in range(2):
    state = train(state, batch, jax.random.key(1))
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest())
"""


NETWORKS = """
import sys
from pathlib import Path
import jax
from tests.recipes import PLAIN
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec
from vlga_jax.training import compiler, programs

cache = Path(sys.argv[1])
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
compiler._WORTH_FLOPS = 0.0
for channels in range(2, 8):
    blocks = (BlockSpec(ConvSpec(channels, 3, True), None, None, False, 0.0),)
    spec = NetworkSpec((8, 8, 3), 10, "relu", "average", blocks)
    built = programs.build(programs.Plan(spec, PLAIN, 0, 8, "uint8", False))
    assert "__onednn$convolution" in built.train.gradient.as_text()
    print(len(Path("/proc/self/maps").read_text().splitlines()))
kept = [path.name for path in cache.iterdir()]
assert any("epoch_order" in name for name in kept)  # others' programs are kept as ever
assert not any("gradient" in name or "eval" in name for name in kept), kept
"""


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    compiler.has_onednn.cache_clear()
    yield
    compiler.has_onednn.cache_clear()


def on_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def test_onednn_computes_convolutions_where_jaxlib_has_it() -> None:
    assert compiler.has_onednn() == on_x86()
    assert ("xla_cpu_experimental_onednn_custom_call" in compiler.options("tuned", math.inf)) == on_x86()


def test_a_jaxlib_that_knows_no_such_options_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_ONEDNN", {"xla_cpu_no_such_option": True})
    assert not compiler.has_onednn()
    assert compiler.options("tuned", math.inf) == {"xla_backend_optimization_level": 1}


def test_a_jaxlib_that_has_the_options_without_the_library_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_ONEDNN", {"xla_cpu_experimental_onednn_custom_call": False})
    assert not compiler.has_onednn()


def test_a_short_training_is_compiled_as_the_cache_can_hold_it() -> None:
    short, long = compiler.options("tuned", 3e10), compiler.options("tuned", 5e10)
    assert short == {"xla_backend_optimization_level": 1}
    assert ("xla_cpu_experimental_onednn_custom_call" in long) == on_x86()


@pytest.mark.parametrize(("layers", "backend"), [("plain", "cpu"), ("tuned", "gpu")])
def test_options_are_for_tuned_layers_on_a_cpu(layers: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert compiler.options(layers, math.inf) == {}


@pytest.mark.skipif(
    not (on_x86() and sys.platform == "linux"), reason="looks at what Linux maps for a program with oneDNN"
)
def test_programs_that_call_onednn_leave_nothing_in_memory_or_in_the_cache(tmp_path: Path) -> None:
    """JAX's attempt to cache one used to leave all its code mapped: after some hundred networks Linux gave no more."""
    done = subprocess.run([sys.executable, "-c", NETWORKS, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "persistent compilation cache" not in done.stderr
    mappings = [int(line) for line in done.stdout.split()]
    assert mappings[-1] - mappings[1] < 50, mappings  # a network of these left 70


@pytest.mark.skipif(not on_x86(), reason="XLA's own convolutions add in another order with other numbers of threads")
def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    def weights(threads: int) -> str:
        surroundings = {**os.environ, "NPROC": str(threads)}  # which XLA takes for the number of processors
        done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, env=surroundings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert weights(1) == weights(2) == weights(16)
