"""oneDNN stays within the buffers that it is given, also where the processor has fewer instructions than this one.

It does not always: the weight gradient of a 1x1 convolution with a stride, which this project never asks for, writes
beyond its scratchpad, at which PyTorch hangs on processors with AVX2 (https://github.com/uxlfoundation/oneDNN/issues/6035).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from vlga_jax.network import onednn

RUN = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).main())"
HARNESS = Path(__file__).with_name("guarded.c")
pytestmark = pytest.mark.skipif(not onednn.available(), reason="oneDNN or a C compiler is not installed")

Build = Callable[[Path], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles the harness with a source of the convolutions."""
    library, header = (onednn._installed(*package) for package in onednn._PACKAGES.items())
    compiler = next(filter(None, map(shutil.which, onednn._COMPILERS)))

    def build(source: Path) -> Path:
        built = tmp_path_factory.mktemp("guarded") / "guarded.so"
        command = [compiler, *onednn._OPTIONS, f"-I{header.parents[2]}", f"-I{jax.ffi.include_dir()}"]
        command += [f'-DSOURCE="{source}"', str(HARNESS), str(library), f"-Wl,-rpath,{library.parent}"]
        subprocess.run([*command, "-o", str(built)], check=True, capture_output=True, text=True)
        return built

    return build


def run(built: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, "-c", RUN, str(built)], {**os.environ, **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("isa", ["ALL", "AVX2", "SSE41"])
def test_no_convolution_touches_what_lies_beside_its_buffers(isa: str, build: Build) -> None:
    done = run(build(onednn._SOURCE), ONEDNN_MAX_CPU_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("504 shapes")


def test_a_workspace_that_is_too_small_is_found(build: Build, tmp_path: Path) -> None:
    source = onednn._SOURCE.read_text()
    told, less = "aligned_alloc(ALIGNMENT, bytes)", "aligned_alloc(ALIGNMENT, own_bytes)"
    assert source.count(told) == 1
    (tmp_path / "less.c").write_text(source.replace(told, less))
    done = run(build(tmp_path / "less.c"))
    assert done.returncode == 1 and "a page beside a buffer was touched" in done.stderr
