"""How much memory there is, how much a program needs, and how freed memory is used again."""

import ctypes
import functools
import math
import os
from pathlib import Path
from typing import Any

import jax

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# glibc's mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Lets the process keep the memory it frees, where the C library is glibc; elsewhere does nothing.

    By default glibc maps every large buffer anew and gives it back when it is freed, so that each step of a training
    pays for the first touch of each page: half the time of a search on a CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_ARENA_MAX, 1)):
        mallopt(option, value)


def tree_bytes(tree: Any) -> int:
    """Returns the size of all arrays, or shapes, of a tree."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def program_bytes(compiled: Any) -> int:
    """Returns the most memory a compiled program holds at once, arguments and results included; 0 if unknown."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    sizes = ("temp_size_in_bytes", "argument_size_in_bytes", "output_size_in_bytes")
    return sum(getattr(analysis, name) for name in sizes) - analysis.alias_size_in_bytes


@functools.cache
def host_bytes() -> int:
    """Returns the machine's memory, or the container's share of it; never what happens to be free."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CGROUP_LIMITS:
        if path.exists() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def total_bytes() -> int:
    """Returns the memory that programs may use: the device's, or the host's on a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("bytes_limit", 0)) or host_bytes()
