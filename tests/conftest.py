"""All tests run on the CPU, under strict dtype and rank promotion."""

import gc
import os

os.environ["JAX_PLATFORMS"] = "cpu"

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from numpy.typing import ArrayLike

AssertShares = Callable[[ArrayLike, int, ArrayLike], None]

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_finish() -> None:
    """Spares Python's collector what importing made: it took a twentieth of the tests' time."""
    gc.freeze()


@pytest.fixture(scope="session")
def assert_shares() -> AssertShares:
    """Asserts that counts out of a number of draws lie within five binomial standard errors of probabilities."""

    def check(counts: ArrayLike, num_draws: int, probabilities: ArrayLike) -> None:
        expected = np.broadcast_to(np.asarray(probabilities, np.float64), np.shape(counts))
        error = np.sqrt(expected * (1 - expected) / num_draws)
        np.testing.assert_array_less(np.abs(np.asarray(counts) / num_draws - expected), 5 * error + 1e-12)

    return check


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this test session, the same in all its processes (pytest-xdist)."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def cache_home(shared_dir: Path) -> Iterator[Path]:
    """The user's cache directory for the session: JAX keeps its programs there, so equal ones are compiled once."""
    from experiments import default
    from vlga_jax import backend
    from vlga_jax.run.laboratory import parse_config

    home = shared_dir / "cache_home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        backend.configure_backend(parse_config(default.get_config().to_dict()))
        compilation_cache.reset_cache()
        yield home
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
