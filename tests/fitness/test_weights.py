import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chex
import jax
import numpy as np
import pytest

from vlga_jax.fitness.weights import WeightStore
from vlga_jax.network.initialise import initialise

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "some run" / "weights"


@pytest.fixture
def store(directory: Path) -> Iterator[WeightStore]:
    with contextlib.closing(WeightStore(directory)) as opened:
        yield opened


def variables_of(request: Any, seed: int = 0) -> dict[str, Any]:
    return initialise(jax.random.key(seed), request.network)


def test_load_after_save_returns_the_same_bits(store: WeightStore, directory: Path, make_request: Any) -> None:
    request = make_request()
    variables = variables_of(request)
    variables["params"]["head"]["bias"] = np.array([-0.0, np.float32(1e-42), np.inf], np.float32)
    store.save(A, variables)
    store.wait()
    with contextlib.closing(WeightStore(directory)) as another:
        loaded = another.load(A, request.network)
    chex.assert_trees_all_equal_shapes_and_dtypes(loaded, variables)
    for left, right in zip(jax.tree.leaves(loaded), jax.tree.leaves(variables), strict=True):
        assert isinstance(left, np.ndarray) and left.tobytes() == right.tobytes()
    assert set(loaded) == {"params", "batch_stats"}


def test_load_of_a_network_without_batch_norm_has_no_statistics(store: WeightStore, make_request: Any) -> None:
    request = make_request(block={"b": None, "a": make_request().network.blocks[0].b})
    store.save(A, variables_of(request))
    assert set(store.load(A, request.network)) == {"params"}


def test_load_of_another_networks_weights_raises(store: WeightStore, make_request: Any) -> None:
    store.save(A, variables_of(make_request()))
    with pytest.raises(ValueError, match="."):
        store.load(A, make_request(block={"b": None}).network)


def test_save_over_older_weights_replaces_them(store: WeightStore, make_request: Any) -> None:
    request = make_request()
    store.save(A, variables_of(request, 0))
    store.save(A, variables_of(request, 1))
    chex.assert_trees_all_equal(store.load(A, request.network), variables_of(request, 1))


def test_has_after_save_and_drop_tells(store: WeightStore, make_request: Any) -> None:
    assert not store.has(A)
    store.save(A, variables_of(make_request()))
    assert store.has(A) and not store.has(B)
    store.drop(A)
    store.drop(B)
    assert not store.has(A)


def test_keep_only_of_some_deletes_all_others(store: WeightStore, directory: Path, make_request: Any) -> None:
    for digest in (A, B):
        store.save(digest, variables_of(make_request()))
    (directory / f"{C}.orbax-checkpoint-tmp").mkdir()
    store.keep_only([B, C])
    assert [path.name for path in directory.iterdir()] == [B]
    chex.assert_trees_all_equal(store.load(B, make_request().network), variables_of(make_request()))


def test_weight_store_of_another_environment_holds_nothing(directory: Path, make_request: Any) -> None:
    def opened(environment: str | None) -> contextlib.closing[WeightStore]:
        return contextlib.closing(WeightStore(directory, environment))

    with opened('"here"') as store:
        store.save(A, variables_of(make_request()))
    with opened('"here"') as store:
        assert store.has(A)
    with opened('"there"') as store:
        assert not store.has(A)
        store.save(A, variables_of(make_request()))
    with opened('"here"'):
        pass  # a run that is refused asks for no weights, and takes none from another
    with opened('"there"') as store:
        assert store.has(A)
    with opened(None) as store:  # is content with all, and whose they are is then no longer known
        assert store.has(A)
    with opened('"there"') as store:
        assert not store.has(A)


_SAVES_MUCH = """
import sys
from pathlib import Path
import numpy as np
from vlga_jax.fitness.weights import WeightStore
store = WeightStore(Path(sys.argv[1]))
store.save(sys.argv[2], {"params": {"head": {"bias": np.random.default_rng(0).random(50_000_000, np.float32)}}})
store.close()
"""


def test_has_after_a_kill_in_the_middle_of_save_is_false_and_save_works_again(
    store: WeightStore, directory: Path, make_request: Any
) -> None:
    process = subprocess.Popen([sys.executable, "-c", _SAVES_MUCH, str(directory), A])
    started = time.monotonic()
    while not any(directory.iterdir()):
        assert process.poll() is None and time.monotonic() - started < 60
        time.sleep(0.0005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    left = [path.name for path in directory.iterdir()]
    assert len(left) == 1 and left != [A], "the save was over before the kill"
    assert not store.has(A)

    request = make_request()
    store.save(A, variables_of(request))
    assert store.has(A)
    chex.assert_trees_all_equal(store.load(A, request.network), variables_of(request))
    store.keep_only([A])
    assert [path.name for path in directory.iterdir()] == [A]


def test_save_over_what_an_interrupted_deletion_left_works(
    store: WeightStore, directory: Path, make_request: Any
) -> None:
    request = make_request()
    store.save(A, variables_of(request))
    store.wait()
    shutil.rmtree(directory / A / "d")
    store.save(A, variables_of(request))
    chex.assert_trees_all_equal(store.load(A, request.network), variables_of(request))


def test_what_could_not_be_written_is_told_once_and_later_weights_are_written(
    store: WeightStore, directory: Path, make_request: Any
) -> None:
    request = make_request()
    assert not store.has(A)  # it has looked whose weights are here
    shutil.rmtree(directory)
    directory.write_text("no directory")
    store.save(B, variables_of(request))
    with pytest.raises(OSError, match="."):
        store.wait()
    directory.unlink()
    directory.mkdir()
    store.save(B, variables_of(request))
    assert store.has(B)


def test_save_on_a_full_disk_says_so_before_anything_is_written(
    store: WeightStore, directory: Path, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=1 << 30, free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    store.save(A, variables_of(make_request()))
    with pytest.raises(OSError, match="No space left on device"):
        store.wait()
    assert not (directory / A).exists()
    usage.free = 1 << 29
    store.save(A, variables_of(make_request()))
    assert store.has(A)


def test_drop_of_what_is_on_its_way_leaves_nothing(store: WeightStore, make_request: Any) -> None:
    store.save(A, variables_of(make_request()))
    store.drop(A)
    assert not store.has(A)
