"""What this machine computes on, told without JAX: compiled programs, and the last bits of results, depend on it."""

import functools
import hashlib
import importlib.util
import os
import platform
from pathlib import Path

# Of NVIDIA's driver, of it inside Windows' Linux, and of AMD's.
_GPU_FILES = (Path("/dev/nvidiactl"), Path("/proc/driver/nvidia/version"), Path("/dev/dxg"), Path("/dev/kfd"))


@functools.cache
def processor() -> str:
    """Returns the machine's kind and eight digits of a hash of its processor's abilities, as in "x86_64-0a1b2c3d"."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    abilities = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(abilities.encode()).hexdigest()[:8]}"


def num_threads() -> int:
    """Returns how many threads XLA computes with on a CPU: NPROC of the surroundings, else the cores we may use."""
    given = os.environ.get("NPROC", "")
    return int(given) if given.isdecimal() and int(given) else num_cores()


def num_cores() -> int:
    """Returns how many of the machine's cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_gpu() -> bool:
    """Returns whether JAX may find a GPU here: its plugin and a driver are there. JAX itself would begin to use it."""
    hidden = os.environ.get("JAX_PLATFORMS") == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or importlib.util.find_spec("jax_plugins") is None:
        return False
    return any(file.exists() for file in _GPU_FILES)
