"""What is compiled for a GPU, compiled for the CPU instead: JAX's CUDA is not there where tests run."""

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental import topologies

from benchmarks import compile_threads, gpu_programs
from benchmarks.workloads import WORKLOADS
from experiments import cifar10
from vlga_jax.network.spec import count_flops
from vlga_jax.network.widening import widened
from vlga_jax.run.laboratory import parse_config
from vlga_jax.training import memory
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.programs import lower


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two phases, a CPU in the GPU's place, and a process whose settings stay as they are."""
    short = dataclasses.replace(WORKLOADS["full"], num_phases=2, channels=(8, 16), kernels=(1, 3))
    monkeypatch.setitem(WORKLOADS, "full", short)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(gpu_programs, "configure_backend", lambda config, *, keep_memory: None)
    monkeypatch.setenv("XLA_FLAGS", "")


def on_cpu(**asked: Any) -> jax.sharding.Mesh:
    assert asked["platform"] == "cuda"
    assert "H100" in asked["target_config"]
    return jax.sharding.Mesh(np.array(jax.devices("cpu")[:1]), ("device",))


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topologies, "get_topology_desc", on_cpu)
    monkeypatch.setattr(topologies, "make_mesh", lambda target, *_: target)


def as_if_on_a_gpu(plan: Any) -> Any:
    """Lowers, and fails unless this would be for the GPU whose mesh is set and whose memory is the limit."""
    assert jax.default_backend() == "gpu"
    assert jax.sharding.get_mesh() == on_cpu(platform="cuda", target_config="H100")
    assert memory.total_bytes() == 84_942_979_072
    return lower(plan)


@pytest.mark.usefixtures("cpu")
def test_every_phase_and_final_training_is_compiled_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_programs, "lower", as_if_on_a_gpu)
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=false")
    out = tmp_path / "programs.json"
    assert gpu_programs.main(["", "--networks=2", "--blocks=1", f"--json={out}"]) == 0

    written = json.loads(out.read_text())
    assert (written["target"], written["xla_flags"]) == ("cpu", "--xla_gpu_enable_triton_gemm=false")
    names = [f"phase {phase}, network {number}" for phase in (1, 2) for number in (1, 2)]
    assert [program["name"] for program in written["programs"]] == [*names, "final training, 1 blocks"]
    assert all(program["compile_seconds"] > 0 and not program["refused"] for program in written["programs"])
    # The whole data set is an argument of an epoch, of uint8 images or of bfloat16 features of at least eight channels.
    assert written["programs"][0]["bytes"] > 45_000 * 32 * 32 * 3
    assert written["programs"][2]["bytes"] > 45_000 * 32 * 32 * 8 * 2
    assert capsys.readouterr().out.count("\n") == 2 + 5


@pytest.mark.usefixtures("cpu")
def test_a_refused_program_is_named_and_the_others_are_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse_features(plan: Any) -> Any:
        if plan.input_dtype == "bfloat16":
            raise jax.errors.JaxRuntimeError("INTERNAL: no such kernel\nand more")
        return lower(plan)

    monkeypatch.setattr(gpu_programs, "lower", refuse_features)
    assert gpu_programs.main(["", "--networks=1", "--blocks=1"]) == 1
    rows = capsys.readouterr().out.splitlines()[2:]
    assert ["refused: INTERNAL: no such kernel |" in row for row in rows] == [False, True, False]


class Compiled:
    """A program of three calls, one of them none of NVIDIA's, which holds so many bytes."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes

    def compile(self) -> "Compiled":
        return self

    def as_text(self) -> str:
        return "".join(f'custom_call_target="{name}"\n' for name in ("__cublas$lt$matmul", "__cudnn$conv", "other"))


@pytest.mark.usefixtures("cpu")
def test_libraries_calls_are_counted_and_what_exceeds_the_gpus_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = iter([84_942_979_072, 84_942_979_073])

    def next_program(plan: Any) -> Any:
        if plan.spec.input_shape == (32, 32, 3) and plan.recipe.optimizer == "sgd":
            raise TrainingFailure("out_of_memory", "its weights")
        return (Compiled(next(sizes)),) * 2

    monkeypatch.setattr(gpu_programs, "lower", next_program)
    monkeypatch.setattr(memory, "program_bytes", lambda compiled: compiled.num_bytes)
    assert gpu_programs.main(["", "--networks=1", "--blocks=1"]) == 1
    fits, too_large, no_state = capsys.readouterr().out.splitlines()[2:]
    assert fits.endswith("| 84.9 | 1 cublas lt matmul, 1 cudnn conv |")
    assert "refused: an epoch holds 84.9 GB" in too_large
    assert "refused: out_of_memory: its weights" in no_state


def test_a_final_training_does_not_depend_on_the_others() -> None:
    config = parse_config(cifar10.get_config().to_dict())
    (alone,) = gpu_programs._final(config, [3])
    assert list(gpu_programs._final(config, [2, 3]))[1] == alone


def test_a_final_training_is_that_of_a_winner_made_wider() -> None:
    config = parse_config(cifar10.get_config().to_dict())
    as_found = dataclasses.replace(config, final=dataclasses.replace(config.final, widen_to_flops=0))
    wide, found = (dict(gpu_programs._final(each, [3]))["final training, 3 blocks"].spec for each in (config, as_found))
    assert count_flops(found) < config.final.widen_to_flops, "or there is nothing to widen"
    assert wide == widened(found, config.final.widen_to_flops) != found


def test_without_cuda_for_jax_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(**_: Any) -> None:
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    assert gpu_programs.main([""]) == 2
    assert "make gpu-programs" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (tmp_path / "missing" / "out.json", tmp_path):
        assert gpu_programs.main(["", f"--json={out}"]) == 2
        assert "--json" in capsys.readouterr().err


@pytest.mark.usefixtures("cpu")
@pytest.mark.parametrize(("flags", "kept"), [([], 0), (["--keep_freed_memory"], 1)])
def test_compile_threads_compiles_every_network_but_the_first_in_threads(
    flags: list[str], kept: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads: list[bool] = []

    def watched(plan: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return (Compiled(0),) * 2 if kept else as_if_on_a_gpu(plan)

    keeping: list[None] = []
    monkeypatch.setattr(compile_threads, "lower", watched)
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: keeping.append(None))
    assert compile_threads.main(["", "--threads=2", *flags]) == 0
    assert threads == [True, *[False] * 5] and len(keeping) == kept
    assert capsys.readouterr().out.startswith("5 networks in 2 threads: ")


def test_compile_threads_of_no_thread_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_threads.main(["", "--threads=0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "threads" in said and said.count("\n") == 1
