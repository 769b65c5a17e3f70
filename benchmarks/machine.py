"""What a measurement was taken on."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from vlga_jax.processor import num_cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def machine() -> dict[str, str | int]:
    """Returns processor, cores, memory in GiB, operating system and GPU, empty if there is none; no host name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": num_cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": platform.system(),
        "gpu": _gpu(),
    }


def _gpu() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return answer.stdout.splitlines()[0].strip() if answer.returncode == 0 and answer.stdout else ""


def versions() -> dict[str, str]:
    """Returns the versions of Python and of what decides this project's speed."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}
