"""What this machine's processor can do, as a name: compiled programs, and the last bits of results, depend on it."""

import functools
import hashlib
import platform
from pathlib import Path


@functools.cache
def processor() -> str:
    """Returns the machine's kind and eight digits of a hash of its processor's abilities, as in "x86_64-0a1b2c3d"."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    abilities = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(abilities.encode()).hexdigest()[:8]}"
