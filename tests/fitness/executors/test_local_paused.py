"""Trainings that are paused: they go on to the same bits, or begin again."""

import dataclasses
from typing import Any

from tests.fitness.executors.executing import OpenExecutor, bits, nobody
from vlga_jax.fitness.executors.local import Trained


def test_run_judged_in_between_goes_on_to_the_same_bits(open_executor: OpenExecutor, make_request: Any) -> None:
    told: list[tuple[str, int]] = []
    request = make_request(recipe={"epochs": 4, "schedule": "cosine"})
    (whole,) = open_executor().run([request], nobody)
    executor = open_executor(on_epoch=lambda digest, epoch, *_: told.append((digest, epoch)))
    stages: list[Trained] = []
    for epochs in (1, 3, 4):
        executor.keep_paused({request.trajectory})
        stages += executor.run([request.until(epochs)], nobody)
    assert bits(stages[-1]) == bits(whole)
    assert [len(stage.evaluation.losses) for stage in stages] == [1, 3, 4]
    assert all(stage.evaluation.losses == whole.evaluation.losses[: len(stage.evaluation.losses)] for stage in stages)
    assert [epoch for _, epoch in told] == [0, 1, 2, 3], "no epoch twice"
    assert {digest for digest, _ in told} == {request.until(epochs).digest for epochs in (1, 3, 4)}


def test_run_of_a_training_that_was_let_go_of_begins_again(open_executor: OpenExecutor, make_request: Any) -> None:
    told: list[int] = []
    request = make_request(recipe={"epochs": 2})
    executor = open_executor(on_epoch=lambda _, epoch, *__: told.append(epoch))
    (first,) = executor.run([request.until(1)], nobody)
    executor.keep_paused(())
    (second,) = executor.run([request.until(1)], nobody)
    assert bits(second) == bits(first)
    assert told == [0, 0]


def test_run_of_paused_training_counts_the_time_before_against_max_seconds(
    open_executor: OpenExecutor, make_request: Any
) -> None:
    request = make_request(recipe={"epochs": 2})
    executor = open_executor()
    (first,) = executor.run([request.until(1)], nobody)
    limit = first.evaluation.train_seconds / 2
    late = dataclasses.replace(request, limits=dataclasses.replace(request.limits, max_seconds=limit))
    (second,) = executor.run([late], nobody)
    assert second.evaluation.status == "out_of_time"
    assert second.evaluation.losses == first.evaluation.losses, "of the epoch before it failed"
