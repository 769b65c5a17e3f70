import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.network import onednn
from vlga_jax.processor import num_threads

ON_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
needs_onednn = pytest.mark.skipif(not onednn.available(), reason="oneDNN or a C compiler is not installed")


def asked_anew() -> tuple[str, bool]:
    """What `version` and `computes_bfloat16` would say in a process that did not ask before.

    Only where it does not find the library again.
    """
    return onednn._loaded.__wrapped__()


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.skipif(not ON_LINUX or not any(map(shutil.which, onednn._COMPILERS)), reason="is not expected here")
def test_onednn_is_here_where_its_packages_and_a_compiler_are() -> None:
    assert onednn.version().startswith(metadata.version("onednn-cpu-gomp"))
    assert onednn.version().endswith(f"threads {num_threads()}")


def test_without_its_packages_it_is_not_here_and_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onednn, "_PACKAGES", {"no-such-package": "libdnnl.so.3"})
    assert asked_anew() == ("", False)
    assert not caplog.messages


@needs_onednn
@pytest.mark.parametrize(
    ("compilers", "reason"),
    [((), "there is no C compiler"), (("no-such-compiler", "false"), "returned non-zero exit status 1")],
)
def test_what_cannot_be_compiled_is_told_and_done_without(
    compilers: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(onednn, "_COMPILERS", compilers)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert asked_anew() == ("", False)
    (message,) = caplog.messages
    assert "convolutions are slower without oneDNN" in message and reason in message


@needs_onednn
def test_it_is_compiled_once_and_leaves_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = onednn._built()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [built]
    monkeypatch.setattr(onednn, "_COMPILERS", ())
    assert onednn._built() == built


@needs_onednn
def test_a_compiler_that_does_not_work_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(onednn, "_COMPILERS", ("false", *onednn._COMPILERS))
    assert onednn._built().exists()


@needs_onednn
@pytest.mark.parametrize("content", [b"", b"no library"])
def test_what_cannot_be_loaded_is_compiled_again(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = onednn._built()
    built.write_bytes(content)
    assert onednn._load().vlga_onednn_start
    assert built.read_bytes() != content


@needs_onednn
def test_what_onednn_refuses_is_an_error_that_names_the_shapes() -> None:
    with pytest.raises(
        jax.errors.JaxRuntimeError, match=r"oneDNN status \d+: images \[1, 4, 4, 3\], kernel \[2, 2, 3, 8\]"
    ):
        onednn.convolution(jnp.zeros((1, 4, 4, 3)), jnp.zeros((2, 2, 3, 8)))  # 'same' with a side that is even


@pytest.mark.parametrize("types", [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float16")])
def test_operands_of_other_types_are_refused_before_they_are_read(types: tuple[str, str]) -> None:
    first, second = (jnp.zeros((1, 1, 1, 1), each) for each in types)
    for refused in (lambda: onednn.convolution(first, second), lambda: onednn.weight_gradient(first, second, 1)):
        with pytest.raises(TypeError, match=rf"operands are {types[0]} and {types[1]}; both must be"):
            refused()


FEW_KEPT = """
import jax, numpy as np
from vlga_jax.network import onednn
onednn._OPTIONS += ("-DCONVOLUTIONS_KEPT=3",)
assert onednn.available()
images, identity = np.arange(40, dtype=np.float32).reshape(10, 2, 2, 1), np.ones((1, 1, 1, 1), np.float32)
program = jax.jit(lambda images: [onednn.convolution(images[:size], identity) for size in range(1, 11)])
for _ in range(3):  # what was let go of is made again
    for size, outputs in enumerate(jax.device_get(program(images)), 1):
        np.testing.assert_array_equal(outputs, images[:size])
"""


@needs_onednn
def test_more_shapes_than_are_kept_are_computed_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", FEW_KEPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


SEVERAL_THREADS = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import jax, numpy as np
from vlga_jax.network import onednn

cores = os.sched_getaffinity(0)
assert onednn.available()
assert os.sched_getaffinity(0) == cores
random = np.random.default_rng(0)
shapes = [(64, size, size, channels) for size in (31, 8) for channels in (3, 8, 64)]
arrays = [(random.normal(size=shape), random.normal(size=(3, 3, shape[3], 32))) for shape in shapes]
arrays = [(np.float32(images), np.float32(kernel)) for images, kernel in arrays]
both = jax.jit(lambda images, kernel: onednn.weight_gradient(images, onednn.convolution(images, kernel), 3))
sums = lambda pair: np.asarray(both(*pair))
with ThreadPoolExecutor(4) as pool:
    first = list(pool.map(sums, arrays))
    times = int(sys.argv[1])
    for one, other in zip(first * times, pool.map(sums, arrays * times), strict=True):
        np.testing.assert_array_equal(one, other)
threads = [name for name in os.listdir("/proc/self/task")]
assert len(threads) < 100, threads  # one team, not one for each of XLA's threads
"""


@needs_onednn
@pytest.mark.parametrize(
    "environment",
    [{}, {"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}, {"OMP_MAX_ACTIVE_LEVELS": "0"}, {"OMP_PROC_BIND": "true"}],
)
def test_several_threads_may_compute_at_a_time(environment: dict[str, str]) -> None:
    """Nor does it wait for threads that OpenMP was told not to make."""
    times = 5 if environment else 20  # a thread that is not made is missed at once
    command = [sys.executable, "-c", SEVERAL_THREADS, str(times)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


TINY = """
import numpy as np
from vlga_jax.network import onednn
assert onednn.available()
library = onednn._load()
before = library.omp_get_max_threads()
for batch in (1, 4096):  # in the calling thread, and handed over
    images = np.full((batch, 8, 8, 8), 1e-40, np.float32)  # denormal
    assert not np.asarray(onednn.convolution(images, np.eye(8, dtype=np.float32)[None, None])).any()
assert library.omp_get_max_threads() == before > 1
"""


@needs_onednn
@pytest.mark.skipif(num_threads() < 2, reason="there is one thread anyway")
def test_denormals_are_zero_as_in_xlas_programs_and_openmp_is_left_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", TINY], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


HARNESS = Path(__file__).with_name("guarded.c")
GUARDED = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).main())"


def guarded(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the harness with a source of the convolutions."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(onednn, "_SOURCE", HARNESS)
    monkeypatch.setattr(onednn, "_OPTIONS", (*onednn._OPTIONS, f'-DSOURCE="{source}"'))
    command = [sys.executable, "-c", GUARDED, str(onednn._built())]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@needs_onednn
@pytest.mark.parametrize("isa", ["ALL", "AVX2", "SSE41"])
def test_no_convolution_touches_what_lies_beside_its_buffers(
    isa: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where the processor has fewer instructions than this one.

    With a stride, which this project never asks for, oneDNN's weight gradient of a 1x1 convolution writes beyond its
    scratchpad, and PyTorch hangs in it on processors with AVX2: https://github.com/uxlfoundation/oneDNN/issues/6035.
    """
    code, told, failure = guarded(onednn._SOURCE, monkeypatch, tmp_path, ONEDNN_MAX_CPU_ISA=isa)
    assert code == 0, failure
    assert told.startswith("504 shapes")


@needs_onednn
def test_a_workspace_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = onednn._SOURCE.read_text()
    told, less = "aligned_alloc(ALIGNMENT, bytes)", "aligned_alloc(ALIGNMENT, own_bytes)"
    assert source.count(told) == 1
    (tmp_path / "less.c").write_text(source.replace(told, less))
    code, _, failure = guarded(tmp_path / "less.c", monkeypatch, tmp_path)
    assert code == 1 and "a page beside a buffer was touched" in failure
