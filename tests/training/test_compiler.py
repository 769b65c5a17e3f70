import subprocess
import sys
from pathlib import Path

import jax
import pytest

from vlga_jax.training import compiler


@pytest.mark.parametrize(
    ("layers", "backend", "expected"),
    [("tuned", "cpu", {"xla_backend_optimization_level": 1}), ("plain", "cpu", {}), ("tuned", "gpu", {})],
)
def test_options_are_for_tuned_layers_on_a_cpu(
    layers: str, backend: str, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert compiler.options(layers) == expected


STEPS = """
import hashlib, sys
from pathlib import Path
import jax, numpy as np
from tests.recipes import PLAIN
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training import programs
from vlga_jax.training.step import Batch

cache = Path(sys.argv[1])
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
blocks = (
    BlockSpec(ConvSpec(8, 1, True), PoolSpec("max", 2), ConvSpec(16, 1, True), True, 0.0),
    BlockSpec(ConvSpec(16, 9, False), PoolSpec("average", 2), ConvSpec(32, 3, True), True, 0.0),
)
plan = programs.Plan(NetworkSpec((32, 32, 3), 10, "elu", "average", blocks), PLAIN, 0, 64, "uint8", False)
rng = np.random.default_rng(0)
batch = Batch(rng.integers(0, 256, (plan.batch_size, 32, 32, 3), np.uint8), rng.integers(0, 10, plan.batch_size))
batch = batch._replace(labels=batch.labels.astype(np.int32))
state = plan.packing.packed(plan.initial_state(initialise(jax.random.key(0), plan.spec)))
known = {path.name for path in cache.iterdir()} if cache.exists() else set()
train = programs.build_training(plan)
new = {path.name for path in cache.iterdir() if path.name.endswith("-cache")} - known
for _ in range(2):
    state = train(state, batch, jax.random.key(1))
print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest())
print(len(new))
"""


def test_programs_are_cached_and_give_the_same_bits_in_every_process(tmp_path: Path) -> None:
    def bits_and_new_programs() -> list[str]:
        command = [sys.executable, "-c", STEPS, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    cold, warm = bits_and_new_programs(), bits_and_new_programs()
    assert int(cold[1]) > 0 and int(warm[1]) == 0
    assert cold[0] == warm[0]
