"""What must be set before JAX is imported, or before it first touches a device."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from vlga_jax.processor import may_have_gpu, processor
from vlga_jax.user_cache import trim, user_cache

if TYPE_CHECKING:
    import vlga_jax.run.laboratory  # imports JAX

# Whatever the environment says: results, and the types of compiled programs, depend on these.
_PINNED = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_default_matmul_precision": None,
}
_CACHED_PROGRAM_BYTES = 4 * 1024**3  # of one kind of processor
# Of Python's lock, in seconds: how long whoever trains, records or writes waits for a thread that traces a program.
_SWITCH_INTERVAL = 0.0005
# Dense layers by cuBLAS: an epoch compiles in seven tenths of the time, and of its own Triton products XLA knows no
# default where kernels are deterministic and nothing is tried out (`benchmarks/gpu_programs.py`).
_GPU = ("--xla_gpu_enable_triton_gemm=false",)
# XLA then takes the first algorithm of cuDNN's that gives the same bits every time, and tries none out. Autotuning must
# not be off besides: that leaves convolutions to cuDNN's fallback, hundreds of times slower (docs/performance/gpu.md).
_DETERMINISTIC_GPU = ("--xla_gpu_deterministic_ops=true",)
# Nor are two ways to emit a fusion compiled to choose one: for a GPU that is absent XLA leaves that out by itself where
# kernels are deterministic, for one that is there it is told so. XLA ends the process over a flag that it does not
# know, so this one, an experimental one, is given only to versions that were looked at.
_NO_FUSION_AUTOTUNER = "--xla_gpu_experimental_enable_fusion_autotuner=false"
_HAVE_FUSION_AUTOTUNER = ("0.11.2", "0.12.0.1")  # jaxlib


@contextlib.contextmanager
def imports_kept() -> Iterator[None]:
    """Spares Python's collector the 150,000 objects that importing JAX makes and that stay.

    It does not run within, and never looks later at what was made within. Does nothing where JAX is imported already:
    what there is then may become garbage.
    """
    if "jax" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def configure_backend(config: "vlga_jax.run.laboratory.RunConfig", *, keep_memory: bool = True) -> None:
    """Sets what must be set before JAX first touches a device: its random numbers, kernels and compilation cache.

    Also how soon threads give way to each other.

    Args:
      config: of the run.
      keep_memory: whether freed memory is kept for the next step, see `vlga_jax.training.memory`. Where there is a GPU
        it is not: steps do not need it there, and compile threads would wait for each other.
    """
    import jax

    from vlga_jax.training.memory import keep_freed_memory

    sys.setswitchinterval(_SWITCH_INTERVAL)
    if keep_memory and not may_have_gpu():
        keep_freed_memory()
    given = os.environ.get("XLA_FLAGS", "")
    wanted = [*_GPU, *(_deterministic_gpu() if config.fitness.deterministic else ())]
    os.environ["XLA_FLAGS"] = " ".join([given, *(flag for flag in wanted if flag.split("=")[0] not in given)]).strip()
    # Of a GPU's memory; JAX would leave a quarter to others, and a phase's features may need it.
    if "XLA_CLIENT_MEM_FRACTION" not in os.environ:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # By processor: JAX's cache does not tell them apart, and a home directory may be shared by unlike machines.
        programs = user_cache() / "xla" / processor()
        trim(programs, _CACHED_PROGRAM_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(programs))
    if config.fitness.deterministic:
        # There XLA would look up which algorithms other searches, whose kernels need not be deterministic, found fast.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    for name, value in _PINNED.items():
        jax.config.update(name, value)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _deterministic_gpu() -> Iterator[str]:
    yield from _DETERMINISTIC_GPU
    if metadata.version("jaxlib") in _HAVE_FUSION_AUTOTUNER:
        yield _NO_FUSION_AUTOTUNER
