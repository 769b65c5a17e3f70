"""Compiles the programs of trainings in threads, before their turn comes, and keeps those that may come again."""

import collections
import itertools
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from vlga_jax.processor import num_threads
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.programs import Plan, build_evaluation, build_training

# Jit caches are bounded by entries, not bytes, so programs must be let go.
_TRAININGS_KEPT = 32  # of plans that may come again
_EVALUATIONS_KEPT = 128  # of networks that the next phase may inherit


def default_threads() -> int:
    """Returns how many programs are compiled at a time unless something else is asked for.

    On a CPU one core is left to training, and there are 4 threads at most. Where an accelerator trains there is one a
    core, and 8 at most; that was not measured on one.
    """
    if jax.default_backend() == "cpu":
        return min(4, max(1, num_threads() - 1))
    return min(8, num_threads())


class _Compiled(NamedTuple):
    """A program, or why there is none.

    In words, because an exception kept here would keep what the frames hold that it passes through: a phase's features.
    """

    program: Any
    seconds: float
    failure: tuple[str, str] | None = None  # status and reason

    def get(self) -> Any:
        if self.failure is not None:
            raise TrainingFailure(*self.failure)
        return self.program


_Jobs = collections.OrderedDict[Any, "Future[_Compiled]"]


class ProgramCache:
    """Programs by plan: training and evaluation are compiled each by itself, the training first.

    So a network begins to train before its evaluation is there, which nobody needs until it ends.

    Args:
      threads: programs compiled at a time; 0 is `default_threads()`.
    """

    def __init__(self, threads: int):
        threads = threads or default_threads()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compile")
        self._ahead = threads + 1
        self._trainings: _Jobs = collections.OrderedDict()  # by plan
        self._evaluations: _Jobs = collections.OrderedDict()  # by all that they depend on
        self._charged: weakref.WeakSet[Future[_Compiled]] = weakref.WeakSet()  # somebody was told what they took

    def start(self, plans: Iterable[Plan]) -> None:
        """Begins with the first plans, as many as there are threads and one more."""
        for plan in itertools.islice(plans, self._ahead):
            self._training(plan)
            self._submit(self._evaluations, plan.of_evaluation, build_evaluation, plan)

    def training(self, plan: Plan) -> Any:
        """Returns a plan's `Programs.train` as soon as it is there.

        Raises:
          TrainingFailure: it needs more memory than there is, or the compiler knows no way to run it.
        """
        return self._training(plan).result().get()

    def evaluation(self, plan: Plan) -> Any:
        """Returns a plan's `Programs.evaluate`: that of a training that has the same one, if it is still there.

        Raises:
          TrainingFailure: as for the training.
        """
        name = plan.of_evaluation
        if name not in self._evaluations:  # compiled here, not behind what the threads have still to do
            job: Future[_Compiled] = Future()
            job.set_result(_timed(build_evaluation, plan))
            self._charged.add(job)
            self._evaluations[name] = job
        return self._submit(self._evaluations, name, build_evaluation, plan).result().get()

    def charge(self, plan: Plan) -> float:
        """Returns the seconds that a plan's programs took to compile, but 0 for those that others were told of.

        What is not compiled yet is told to the next who asks.
        """
        jobs = (self._trainings.get(plan), self._evaluations.get(plan.of_evaluation))
        new = [job for job in jobs if job is not None and job.done() and job not in self._charged]
        self._charged.update(new)
        return sum(job.result().seconds for job in new if job.exception() is None)

    def release(self) -> None:
        """Lets go of all programs; they are compiled again if they are asked for."""
        self._trainings.clear()
        self._evaluations.clear()

    def close(self) -> None:
        """Waits for no program that nobody will run."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _training(self, plan: Plan) -> "Future[_Compiled]":
        return self._submit(self._trainings, plan, build_training, plan)

    def _submit(self, jobs: _Jobs, name: Any, build: Callable[[Plan], Any], plan: Plan) -> "Future[_Compiled]":
        if name not in jobs:
            jobs[name] = self._pool.submit(_timed, build, plan)
        jobs.move_to_end(name)
        kept = _TRAININGS_KEPT if jobs is self._trainings else _EVALUATIONS_KEPT
        while len(jobs) > max(kept, self._ahead):
            jobs.popitem(last=False)
        return jobs[name]


def _timed(build: Callable[[Plan], Any], plan: Plan) -> _Compiled:
    started = time.perf_counter()
    try:
        program, failure = build(plan), None
    except TrainingFailure as error:
        program, failure = None, (error.status, error.reason)
    return _Compiled(program, time.perf_counter() - started, failure)
