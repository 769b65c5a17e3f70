"""What the command line sets before JAX first touches a device."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from experiments import default
from vlga_jax.backend import configure_backend, imports_kept
from vlga_jax.checks import InputError
from vlga_jax.run.laboratory import RunConfig, parse_config

ROOT = Path(__file__).resolve().parents[1]


def config_of(*, deterministic: bool = True) -> RunConfig:
    config = default.get_config()
    config.fitness.deterministic = deterministic
    return parse_config(config.to_dict())


@pytest.fixture
def updated(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What is set in JAX's configuration during the test, which stays as it was."""
    values: dict[str, Any] = {}
    monkeypatch.setattr(jax.config, "update", values.__setitem__)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=2")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    interval = sys.getswitchinterval()
    yield values
    sys.setswitchinterval(interval)


def test_configure_backend_keeps_what_the_user_set(updated: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    configure_backend(config_of())

    flags = "--xla_gpu_autotune_level=2 --xla_gpu_enable_triton_gemm=false --xla_gpu_deterministic_ops=true"
    assert os.environ["XLA_FLAGS"] == f"{flags} --xla_gpu_experimental_enable_fusion_autotuner=false"
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"
    assert "jax_compilation_cache_dir" not in updated


@pytest.mark.parametrize(
    ("deterministic", "jaxlib", "flags"),
    [
        (True, "0.11.2", ["deterministic_ops=true", "experimental_enable_fusion_autotuner=false"]),
        (True, "0.12.0.1", ["deterministic_ops=true", "experimental_enable_fusion_autotuner=false"]),
        (True, "0.12.1", ["deterministic_ops=true"]),
        (False, "0.11.2", []),
    ],
)
def test_configure_backend_makes_kernels_deterministic_and_leaves_autotuning_on(
    deterministic: bool, jaxlib: str, flags: list[str], updated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr("vlga_jax.backend.metadata.version", {"jaxlib": jaxlib}.__getitem__)
    configure_backend(config_of(deterministic=deterministic))
    # What autotuning found is kept beside programs, and looked up whether kernels must be deterministic or not.
    assert updated.get("jax_persistent_cache_enable_xla_caches") == ("none" if deterministic else None)
    assert os.environ["XLA_FLAGS"].split() == [f"--xla_gpu_{flag}" for flag in ["enable_triton_gemm=false", *flags]]


def test_configure_backend_keeps_programs_in_the_users_cache(
    updated: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    configure_backend(config_of(deterministic=False))
    assert Path(updated["jax_compilation_cache_dir"]).is_relative_to(tmp_path)
    assert updated["jax_persistent_cache_min_compile_time_secs"] == 0
    assert "jax_compilation_cache_max_size" not in updated  # slow; the directory is trimmed instead


@pytest.mark.parametrize(("gpu", "wanted", "kept"), [(False, True, 1), (True, True, 0), (False, False, 0)])
def test_configure_backend_keeps_freed_memory_where_steps_are_taken_on_a_cpu(
    gpu: bool, wanted: bool, kept: int, updated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del updated
    calls: list[None] = []
    monkeypatch.setattr("vlga_jax.backend.may_have_gpu", lambda: gpu)
    monkeypatch.setattr("vlga_jax.training.memory.keep_freed_memory", lambda: calls.append(None))
    configure_backend(config_of(), keep_memory=wanted)
    assert len(calls) == kept


def test_configure_backend_removes_old_programs(
    updated: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vlga_jax.backend._CACHED_PROGRAM_BYTES", 1)
    configure_backend(config_of())
    programs = Path(updated["jax_compilation_cache_dir"])
    programs.mkdir(parents=True)
    (programs / "program-cache").write_bytes(b"xx")
    configure_backend(config_of())
    assert not list(programs.iterdir())


def test_configure_backend_takes_most_of_a_gpus_memory(
    updated: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del updated
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION")
    configure_backend(config_of())
    assert os.environ.pop("XLA_PYTHON_CLIENT_MEM_FRACTION") == "0.9"
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.3")  # its newer name; XLA takes no more than one of them
    configure_backend(config_of())
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ


def test_configure_backend_pins_what_results_depend_on(updated: dict[str, Any]) -> None:
    configure_backend(config_of())
    names = ("enable_x64", "default_prng_impl", "threefry_partitionable", "default_matmul_precision")
    assert [updated[f"jax_{name}"] for name in names] == [False, "threefry2x32", True, None]


def test_configure_backend_lets_training_not_wait_long_for_threads_that_compile(updated: dict[str, Any]) -> None:
    del updated
    sys.setswitchinterval(0.005)
    configure_backend(config_of())
    assert sys.getswitchinterval() == pytest.approx(0.0005)


@pytest.mark.parametrize("jax_first", [False, True])
def test_the_collector_is_spared_what_importing_jax_makes(jax_first: bool) -> None:
    program = f"""
import gc
from vlga_jax.backend import imports_kept

if {jax_first}:
    import jax
with imports_kept():
    import jax.numpy
    within = gc.isenabled()
print(within, gc.isenabled(), gc.get_freeze_count() > 50_000)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == (["True", "True", "False"] if jax_first else ["False", "True", "True"])


def test_the_collector_runs_again_after_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jax")
    with pytest.raises(InputError), imports_kept():
        raise InputError("config.search", "x", "must be a strategy")
    assert gc.isenabled()


def test_a_program_spares_the_collector_what_it_imports(tmp_path: Path) -> None:
    program = """
import gc, sys
from main import main
code = main(["main.py", *sys.argv[1:]])
print(code, gc.isenabled(), gc.get_freeze_count() > 50_000)
"""
    arguments = [
        "--config=experiments/digits.py",
        "--config.data.num_train_examples=99999",
        f"--workdir={tmp_path / 'run'}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split()[-3:] == ["2", "True", "True"], done.stderr
