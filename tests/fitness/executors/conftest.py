"""What these tests share: executors that are closed at the end."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fitness.executors.executing import Built, OpenExecutor
from vlga_jax.fitness.executors.local import LocalExecutor
from vlga_jax.training import program_cache, programs
from vlga_jax.training.features import PhaseData
from vlga_jax.training.programs import Plan


@pytest.fixture
def open_executor(images: PhaseData) -> Iterator[OpenExecutor]:
    with contextlib.ExitStack() as stack:

        def open_one(*, cache_features: bool = True, compile_threads: int = 1, **options: Any) -> LocalExecutor:
            executor = LocalExecutor(images, cache_features=cache_features, compile_threads=compile_threads, **options)
            return stack.enter_context(contextlib.closing(executor))

        yield open_one


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Built:
    found = Built()
    for build, plans in ((programs.build_training, found.trainings), (programs.build_evaluation, found.evaluations)):

        def watched(plan: Plan, build: Callable[[Plan], Any] = build, plans: list[Plan] = plans) -> Any:
            plans.append(plan)
            return build(plan)

        monkeypatch.setattr(program_cache, build.__name__, watched)
    return found
