"""What these tests share: executors that are closed at the end."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fitness.executors.executing import OpenExecutor
from vlga_jax.fitness.executors.local import LocalExecutor
from vlga_jax.training.features import PhaseData


@pytest.fixture
def open_executor(images: PhaseData) -> Iterator[OpenExecutor]:
    with contextlib.ExitStack() as stack:

        def open_one(*, cache_features: bool = True, compile_threads: int = 1, **options: Any) -> LocalExecutor:
            executor = LocalExecutor(images, cache_features=cache_features, compile_threads=compile_threads, **options)
            return stack.enter_context(contextlib.closing(executor))

        yield open_one
