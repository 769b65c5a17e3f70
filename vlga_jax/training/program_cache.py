"""Compiles the programs of trainings in threads, before their turn comes, and keeps those that may come again."""

import collections
import itertools
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from vlga_jax.training.processor import num_threads
from vlga_jax.training.programs import Plan, Programs, build, build_evaluation

# Jit caches are bounded by entries, not bytes, so programs must be let go.
_PROGRAMS_KEPT = 32  # of plans that may come again
_EVALUATIONS_KEPT = 128  # of networks that the next phase may inherit


def default_threads() -> int:
    """Returns how many programs are compiled at a time unless something else is asked for.

    On a CPU one core is left to training, and there are 4 threads at most. Where an accelerator trains there is one a
    core, and 8 at most; that was not measured on one.
    """
    if jax.default_backend() == "cpu":
        return min(4, max(1, num_threads() - 1))
    return min(8, num_threads())


class ProgramCache:
    """Programs by plan.

    Args:
      threads: programs compiled at a time; 0 is `default_threads()`.
    """

    def __init__(self, threads: int):
        threads = threads or default_threads()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compile")
        self._ahead = threads + 1
        self._programs: collections.OrderedDict[Plan, Future[Programs]] = collections.OrderedDict()
        self._evaluations: collections.OrderedDict[tuple[Any, ...], Any] = collections.OrderedDict()
        self._uncharged: set[Plan] = set()  # submitted, and nobody has been told yet what compiling took

    def start(self, plans: Iterable[Plan]) -> None:
        """Begins with the first plans, as many as there are threads and one more."""
        for plan in itertools.islice(plans, self._ahead):
            self._submit(plan)

    def of(self, plan: Plan) -> tuple[Programs, float]:
        """Returns a plan's programs, and the seconds they took to compile; 0 for those that share them later.

        Raises:
          TrainingFailure: they need more memory than there is.
        """
        programs = self._submit(plan).result()
        self._remember(plan, programs.evaluate)
        seconds = programs.compile_seconds if plan in self._uncharged else 0.0
        self._uncharged.discard(plan)
        return programs, seconds

    def evaluation(self, plan: Plan) -> Any:
        """Returns a plan's `Programs.evaluate`: that of a training that has the same one, if it is still there."""
        known = self._evaluations.get(plan.of_evaluation)
        return self._remember(plan, build_evaluation(plan) if known is None else known)

    def release(self) -> None:
        """Lets go of all programs; they are compiled again if they are asked for."""
        self._programs.clear()
        self._evaluations.clear()

    def close(self) -> None:
        """Waits for no program that nobody will run."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _remember(self, plan: Plan, evaluate: Any) -> Any:
        self._evaluations[plan.of_evaluation] = evaluate
        self._evaluations.move_to_end(plan.of_evaluation)
        while len(self._evaluations) > _EVALUATIONS_KEPT:
            self._evaluations.popitem(last=False)
        return evaluate

    def _submit(self, plan: Plan) -> Future[Programs]:
        if plan not in self._programs:
            self._programs[plan] = self._pool.submit(build, plan)
            self._uncharged.add(plan)
        self._programs.move_to_end(plan)
        while len(self._programs) > max(_PROGRAMS_KEPT, self._ahead):
            self._programs.popitem(last=False)
        return self._programs[plan]
