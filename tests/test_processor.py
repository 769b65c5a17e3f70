import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlga_jax import processor as processor_module
from vlga_jax.processor import may_have_gpu, num_threads, processor


def test_processor_names_the_machine_and_hashes_its_abilities() -> None:
    assert re.fullmatch(rf"{re.escape(platform.machine())}-[0-9a-f]{{8}}", processor())
    assert processor() == processor()


@pytest.mark.parametrize(("given", "expected"), [("3", 3), ("0", 0), ("many", 0), ("", 0)])
def test_num_threads_is_what_the_surroundings_say_or_the_cores_we_may_use(
    given: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPROC", given)
    assert num_threads() == (expected or len(os.sched_getaffinity(0)))


def test_num_threads_on_one_core_is_one() -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    program += "from vlga_jax.processor import num_threads; print(num_threads())"
    surroundings = {name: value for name, value in os.environ.items() if name != "NPROC"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=surroundings)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(
    ("surroundings", "plugin", "driver", "expected"),
    [
        ({}, True, True, True),
        ({"JAX_PLATFORMS": "cuda,cpu", "CUDA_VISIBLE_DEVICES": "1"}, True, True, True),
        ({"JAX_PLATFORMS": "cpu"}, True, True, False),
        ({"CUDA_VISIBLE_DEVICES": ""}, True, True, False),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, True, True, False),
        ({}, False, True, False),
        ({}, True, False, False),
    ],
)
def test_may_have_gpu_needs_a_plugin_and_a_driver_and_leave_to_use_them(
    surroundings: dict[str, str],
    plugin: bool,
    driver: bool,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_spec(name: str) -> Any:
        assert name == "jax_plugins"
        return object() if plugin else None

    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    control = tmp_path / "nvidiactl"
    if driver:
        control.touch()
    monkeypatch.setattr(processor_module, "_GPU_FILES", (tmp_path / "kfd", control))
    assert may_have_gpu() == expected
