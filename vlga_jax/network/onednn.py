"""oneDNN's convolutions within XLA's programs on a CPU, by XLA's foreign function interface.

XLA has no weight gradient of its own that is as fast, and its own way to oneDNN knows none. The library comes with the
packages onednn-cpu-gomp and onednn-devel-cpu-gomp (x86-64 Linux); the functions that XLA calls are in `onednn.c`
beside this file, which the machine's C compiler builds into the user's cache when they are first asked for (0.2 s).
Where something of this is missing, `available` says so, and `vlga_jax.network.convolution` does without it.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp

from vlga_jax.processor import num_threads
from vlga_jax.shapes import Array, Float
from vlga_jax.user_cache import user_cache

_SOURCE = Path(__file__).with_suffix(".c")
_PACKAGES = {"onednn-cpu-gomp": "libdnnl.so.3", "onednn-devel-cpu-gomp": "dnnl.h"}  # and what is needed of them
_COMPILERS = ("cc", "gcc", "clang")
_COMPILER_SECONDS = 60
_OPTIONS = ("-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread")
_CONVOLUTION, _WEIGHT_GRADIENT = "vlga_onednn_convolution", "vlga_onednn_weight_gradient"
# How often a thread that has done its part looks for the next before it sleeps; GOMP's own 300,000 take the compiler's.
_SPIN = {"GOMP_SPINCOUNT": "1000"}
_loading = threading.Lock()


def convolution(
    inputs: Float[Array, "batch height width channels"], kernel: Float[Array, "side side channels out_channels"]
) -> Float[Array, "batch height width out_channels"]:
    """Returns the 'same' convolution of stride 1 in float32, side odd; for where oneDNN is `available`.

    Inputs and kernel are both float32, or both bfloat16 where it `computes_bfloat16`.
    """
    _require_one_type(inputs, kernel)
    result = jax.ShapeDtypeStruct((*inputs.shape[:3], kernel.shape[3]), jnp.float32)
    return jax.ffi.ffi_call(_CONVOLUTION, result)(inputs, kernel)


def weight_gradient(
    inputs: Float[Array, "batch height width channels"],
    gradient: Float[Array, "batch height width out_channels"],
    side: int,
) -> Float[Array, "side side channels out_channels"]:
    """Returns such a convolution's gradient with respect to its kernel, from that with respect to its outputs.

    Both are float32 or both bfloat16, the result is float32.
    """
    _require_one_type(inputs, gradient)
    result = jax.ShapeDtypeStruct((side, side, inputs.shape[3], gradient.shape[3]), jnp.float32)
    return jax.ffi.ffi_call(_WEIGHT_GRADIENT, result)(inputs, gradient)


def _require_one_type(first: Array, second: Array) -> None:
    """`onednn.c` reads both as what the first says."""
    if first.dtype != second.dtype or first.dtype not in (jnp.float32, jnp.bfloat16):
        raise TypeError(f"operands are {first.dtype} and {second.dtype}; both must be float32, or both bfloat16")


def available() -> bool:
    """Returns whether oneDNN is here; the first call loads it. May be asked in several threads."""
    return bool(version())


def version() -> str:
    """Returns what the bits of a convolution depend on, as in "2023.2.0 isa 511 threads 2"; empty without oneDNN."""
    with _loading:
        return _loaded()[0]


def computes_bfloat16() -> bool:
    """Returns whether oneDNN is here, and faster in bfloat16 because the processor multiplies it."""
    with _loading:
        return _loaded()[1]


@functools.cache
def _loaded() -> tuple[str, bool]:
    threads = num_threads()  # before OpenMP may bind this one to a core
    try:
        library = _load()
        threads = library.vlga_onednn_start(threads)
        if not threads:
            raise OSError("it does not start")
    except metadata.PackageNotFoundError:
        return "", False
    except (OSError, AttributeError) as error:
        logging.getLogger(__name__).warning("convolutions are slower without oneDNN: %s", error)
        return "", False
    for name in (_CONVOLUTION, _WEIGHT_GRADIENT):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    version = f"{metadata.version('onednn-cpu-gomp')} isa {library.vlga_onednn_isa()} threads {threads}"
    return version, bool(library.vlga_onednn_has_bfloat16())


def _load() -> ctypes.CDLL:
    """Returns the compiled source, loaded; compiled anew where what is in the cache cannot be loaded.

    Raises:
      PackageNotFoundError, OSError, AttributeError: a package, a file of it, or a working compiler is missing.
    """
    path = _built()
    cores = os.sched_getaffinity(0)
    with _environment(_SPIN):
        try:
            library = ctypes.CDLL(str(path))
            assert library.vlga_onednn_start
        except (OSError, AttributeError):
            path.unlink(missing_ok=True)
            library = ctypes.CDLL(str(_built()))
    os.sched_setaffinity(0, cores)
    return library


def _built_path() -> Path:
    """Returns where the source is compiled to, for what it is compiled with and against."""
    versions = [metadata.version(package) for package in (*_PACKAGES, "jaxlib")]
    places = [str(_installed(*package)) for package in _PACKAGES.items()]
    of = (_SOURCE.read_bytes(), _OPTIONS, versions, places, platform.libc_ver())
    return user_cache() / "onednn" / f"{hashlib.sha256(repr(of).encode()).hexdigest()[:16]}.so"


def _built() -> Path:
    """Returns the compiled source, linked to the installed library.

    Raises:
      PackageNotFoundError, OSError: a package, a file of it, or a working compiler is missing.
    """
    built = _built_path()
    if built.exists():
        return built
    library, header = (_installed(*package) for package in _PACKAGES.items())
    includes = [f"-I{path}" for path in (header.parents[2], jax.ffi.include_dir())]
    built.parent.mkdir(parents=True, exist_ok=True)
    failure = "there is no C compiler"
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        made = Path(scratch) / built.name
        for compiler in filter(None, map(shutil.which, _COMPILERS)):
            linked = [str(_SOURCE), str(library), f"-Wl,-rpath,{library.parent}", "-o", str(made)]
            command = [compiler, *_OPTIONS, *includes, *linked]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMPILER_SECONDS)
                made.replace(built)
                return built
            except subprocess.SubprocessError as error:
                said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
                failure = f"{compiler}: {said[-1] if said else 'failed'}"
    raise OSError(failure)


def _installed(package: str, name: str) -> Path:
    """Returns where a package's file of that name lies, the one deepest below where there are several."""
    files = [file for file in metadata.files(package) or () if file.name == name]
    if not files:
        raise OSError(f"{package} has no {name}")
    return Path(str(max(files, key=lambda file: len(file.parts)).locate())).resolve()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets what the environment does not set already, for a library that reads it while it is loaded."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
