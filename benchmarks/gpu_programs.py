"""Compiles for an NVIDIA H100, without one, what a search and a final training would run on it.

    make gpu-programs                     in an environment of its own, with requirements.txt
    python -m benchmarks.gpu_programs     in a Python that has it

Networks of the full workload, then final trainings of experiments/cifar10.py of more and more blocks: for each, seconds
to compile on this machine, memory without what cuDNN works in, and how often NVIDIA's libraries are called. Nothing is
run, so this says nothing of speed or accuracy on a GPU, only that XLA takes the programs. Networks are drawn; a phase
inherits the first of the one before it.
"""

import collections
import contextlib
import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies

from benchmarks.command_line import run_command
from benchmarks.machine import machine, versions
from benchmarks.workloads import WORKLOADS, complete, draw
from experiments import cifar10
from vlga_jax.backend import configure_backend
from vlga_jax.checks import InputError, output_file
from vlga_jax.genome.chromosome import from_values
from vlga_jax.genome.space import make_search_space
from vlga_jax.network.decode import decode
from vlga_jax.network.spec import NetworkSpec, count_flops
from vlga_jax.network.widening import widened
from vlga_jax.run.laboratory import RunConfig, parse_config
from vlga_jax.training import memory
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.programs import Plan, lower
from vlga_jax.training.step import Recipe

_TARGET = Path(__file__).with_name("h100.textproto")
_IMAGES = (32, 32, 3)
_PRECISION = "bfloat16"
_COLUMNS = ("", "GFLOP a step", "lower, s", "compile, s", "compile evaluation, s", "GB", "calls of cuDNN and cuBLAS")


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    about = "Of each phase of the full workload, 10 at most."
    flags.DEFINE_integer("networks", 3, about, lower_bound=1, upper_bound=10, flag_values=values)
    flags.DEFINE_multi_integer("blocks", [2, 5, 10, 20], "Of a final training.", lower_bound=1, flag_values=values)
    flags.DEFINE_string("json", "", "File to write.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, 1 if a program was refused, 2 after one line on what was wrong with the input."""
    return run_command(argv, __doc__, _flags(), _measure)


def _measure(arguments: flags.FlagValues) -> int:
    out = output_file("--json", arguments.json) if arguments.json else None
    config = parse_config(cifar10.get_config().to_dict())
    with absent_h100(config) as mesh, jax.set_mesh(mesh):
        plans = [*searched(arguments.networks), *_final(config, arguments.blocks)]
        programs = [_compiled(name, plan) for name, plan in plans]
    print("\n".join(_table(programs)))
    if out is not None:
        blocks = "".join(f" --blocks={number}" for number in arguments.blocks)
        about = {
            "command": f"python -m benchmarks.gpu_programs --networks={arguments.networks}{blocks}",
            "target": mesh.devices.item().device_kind,
            "xla_flags": os.environ["XLA_FLAGS"],
            "machine": machine(),
            "versions": versions(),
        }
        out.write_text(json.dumps({**about, "programs": programs}, indent=1) + "\n")
    return 1 if any(program["refused"] for program in programs) else 0


@contextlib.contextmanager
def absent_h100(config: RunConfig) -> Iterator[jax.sharding.Mesh]:
    """Within it programs are those of an H100 that is not there; its mesh, which threads that compile must set.

    Args:
      config: whose flags XLA is given.

    Raises:
      InputError: JAX here has no CUDA.
    """
    configure_backend(config, keep_memory=False)
    jax.config.update("jax_platforms", "cpu")  # no GPU is looked for
    jax.config.update("jax_enable_compilation_cache", False)
    mesh = _mesh()
    # Layers and kernels are chosen by the backend that JAX says it has, and compiled for the mesh that is set.
    backend = mock.patch.object(jax, "default_backend", return_value="gpu")
    limit = mock.patch.object(memory, "total_bytes", return_value=_memory_bytes())
    with backend, limit:
        yield mesh


def _mesh() -> jax.sharding.Mesh:
    try:
        target = topologies.get_topology_desc(platform="cuda", target_config=_TARGET.read_text(), topology="1x1x1")
    except NotImplementedError as error:
        remedy = "has no CUDA for JAX; `make gpu-programs` or `pip install -r requirements.txt` provides it"
        raise InputError("python", sys.executable, remedy) from error
    return topologies.make_mesh(target, (1,), ("device",))


def _memory_bytes() -> int:
    size = re.search(r"device_memory_size: (\d+)", _TARGET.read_text())
    assert size is not None, "stands in the file"
    return int(size[1])


def searched(num_networks: int) -> Iterator[tuple[str, Plan]]:
    """The fitness trainings of the full workload: of images in its first phase, of a prefix's features afterwards."""
    workload = WORKLOADS["full"]
    config = parse_config(workload.config().to_dict())
    space = make_search_space(config.space)
    recipe = dataclasses.replace(config.fitness.recipe(), precision=_PRECISION)
    inherited: list[dict[str, Any]] = []
    for phase, individuals in enumerate(complete(draw(workload, space, seed=0), space)):
        for number, genes in enumerate(individuals[:num_networks], start=1):
            spec = _network(config, [*inherited, genes]).suffix(phase)
            yield f"phase {phase + 1}, network {number}", _plan(spec, recipe, workload.num_train)
        inherited.append(individuals[0])


def _final(config: RunConfig, depths: list[int]) -> Iterator[tuple[str, Plan]]:
    """Final trainings of random networks, widened as a winner is."""
    space = make_search_space(config.space)
    recipe = dataclasses.replace(config.final.recipe(_IMAGES[2], "tuned"), precision=_PRECISION)
    for num_blocks in depths:
        rows = np.random.default_rng(num_blocks).integers(space.num_choices, size=(num_blocks, space.num_genes))
        phases = complete([[space.to_values(row, block)] for block, row in enumerate(rows)], space)
        spec = widened(_network(config, [genes for (genes,) in phases]), config.final.widen_to_flops)
        yield f"final training, {num_blocks} blocks", _plan(spec, recipe, 50_000)


def _network(config: RunConfig, blocks: list[dict[str, Any]]) -> NetworkSpec:
    space = make_search_space(config.space)
    return decode(
        space,
        from_values(space, blocks),
        input_shape=_IMAGES,
        num_classes=10,
        pool_stride=config.space.pool_stride,
        min_side=config.space.min_side,
        head_pool=config.space.head_pool,
        whitening=config.space.whitening,
    )


def _plan(spec: NetworkSpec, recipe: Recipe, num_train: int) -> Plan:
    return Plan(
        spec=spec,
        recipe=recipe,
        num_frozen=0,
        num_train=num_train,
        input_dtype="uint8" if spec.input_shape == _IMAGES else _PRECISION,
        whole_epochs=True,
    )


def _compiled(name: str, plan: Plan) -> dict[str, Any]:
    gflops = 3 * count_flops(plan.spec) * plan.num_train / plan.num_steps / 1e9
    program: dict[str, Any] = {"name": name, "gflop_per_step": round(gflops, 1), "refused": ""}
    clock = [time.perf_counter()]
    try:
        train, evaluate = lower(plan)
        clock.append(time.perf_counter())
        compiled = train.compile()
        clock.append(time.perf_counter())
        evaluate.compile()
        clock.append(time.perf_counter())
        if (num_bytes := memory.program_bytes(compiled)) > memory.total_bytes():
            return program | {"refused": f"an epoch holds {num_bytes / 1e9:.1f} GB"}
    except (jax.errors.JaxRuntimeError, TrainingFailure) as error:
        return program | {"refused": str(error)}
    calls = collections.Counter(re.findall(r'custom_call_target="__(cu[^"]+)"', compiled.as_text() or ""))
    lowering, compiling, evaluation = (round(float(seconds), 2) for seconds in np.diff(clock))
    return program | {
        "lower_seconds": lowering,
        "compile_seconds": compiling,
        "evaluation_compile_seconds": evaluation,
        "bytes": num_bytes,
        "calls": {name.replace("$", " "): calls[name] for name in sorted(calls)},
    }


def _table(programs: list[dict[str, Any]]) -> Iterator[str]:
    yield _line(_COLUMNS)
    yield _line(["---", *["---:"] * (len(_COLUMNS) - 2), "---"])
    for program in programs:
        cells = [program["name"], f"{program['gflop_per_step']:,.1f}"]
        if program["refused"]:
            yield _line([*cells, "", "", "", "", "refused: " + program["refused"].splitlines()[0][:200]])
            continue
        seconds = ("lower_seconds", "compile_seconds", "evaluation_compile_seconds")
        cells += [f"{program[name]:.2f}" for name in seconds]
        calls = ", ".join(f"{count} {name}" for name, count in program["calls"].items())
        yield _line([*cells, f"{program['bytes'] / 1e9:.1f}", calls])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv))
