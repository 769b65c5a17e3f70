"""Says how long threads take that compile for an NVIDIA H100 at the same time, without one.

    python -m benchmarks.compile_threads --threads=2

in a Python that has JAX with CUDA (`make gpu-programs` makes `.venv-cuda`). Fourteen networks of the full workload are
compiled; with --keep_freed_memory as until 28 November 2026, when a GPU's processes kept freed memory as a CPU's do and
all threads shared one of malloc's arenas. MALLOC_ARENA_MAX=1 in the environment does that alone, with glibc.
"""

import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
from absl import flags

from benchmarks.command_line import run_command
from benchmarks.gpu_programs import absent_h100, searched
from experiments import cifar10
from vlga_jax.run.laboratory import parse_config
from vlga_jax.training import memory
from vlga_jax.training.programs import Plan, lower


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_integer("threads", 2, "That compile.", lower_bound=1, flag_values=values)
    flags.DEFINE_bool("keep_freed_memory", False, "See vlga_jax/training/memory.py.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 after one line that says what was wrong with the input."""
    return run_command(argv, __doc__, _flags(), _measure)


def _measure(arguments: flags.FlagValues) -> int:
    if arguments.keep_freed_memory:
        memory.keep_freed_memory()
    config = parse_config(cifar10.get_config().to_dict())
    with absent_h100(config) as mesh, ThreadPoolExecutor(arguments.threads) as pool:

        def compiled(plan: Plan) -> None:
            with jax.set_mesh(mesh):  # of this thread
                for lowered in lower(plan):
                    lowered.compile()

        first, *plans = (plan for _, plan in searched(3))
        compiled(first)  # the first pays for what all need
        waits, started = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, time.perf_counter()
        list(pool.map(compiled, plans))
        seconds = time.perf_counter() - started
    waits = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - waits
    print(f"{len(plans)} networks in {arguments.threads} threads: {seconds:.1f} s, threads waited {waits} times")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
