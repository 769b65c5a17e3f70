import contextlib
import dataclasses
import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from tests.training.fitting import PLAN
from vlga_jax.training import program_cache
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.program_cache import ProgramCache, default_threads
from vlga_jax.training.programs import Plan

OTHERS = [  # whose evaluations differ, too
    dataclasses.replace(PLAN, num_train=size, spec=dataclasses.replace(PLAN.spec, num_classes=size))
    for size in (21, 22, 23)
]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings and evaluations in the order in which they were compiled, for which no compiler is asked here."""
    names: list[str] = []

    def builder(kind: str, refused: int) -> Callable[[Plan], Any]:
        def build(plan: Plan) -> Any:
            names.append(f"{kind} {plan.num_train}")
            if plan.num_train == refused:
                raise TrainingFailure("out_of_memory", f"{kind} too large")
            return lambda *_: f"{kind} {plan.num_train}"

        return build

    monkeypatch.setattr(program_cache, "build_training", builder("train", 22))
    monkeypatch.setattr(program_cache, "build_evaluation", builder("evaluate", 23))
    return names


@pytest.fixture
def programs() -> Iterator[ProgramCache]:
    with contextlib.closing(ProgramCache(threads=1)) as cache:
        yield cache


def known(programs: ProgramCache, plan: Plan) -> Any:
    """What a plan's evaluation says that it is."""
    return programs.evaluation(plan)()


def test_start_begins_with_one_more_than_there_are_threads_each_training_first(
    programs: ProgramCache, built: list[str]
) -> None:
    programs.start(plan for plan in (PLAN, OTHERS[0], OTHERS[2]))
    assert known(programs, OTHERS[0]) == "evaluate 21"
    assert built == ["train 20", "evaluate 20", "train 21", "evaluate 21"]


def test_a_training_is_there_before_its_evaluation(
    programs: ProgramCache, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()

    def wait(_: Plan) -> Any:
        assert may_go_on.wait(60)
        return lambda: "evaluate"

    monkeypatch.setattr(program_cache, "build_evaluation", wait)
    programs.start([PLAN])
    assert programs.training(PLAN)() == "train 20"
    may_go_on.set()
    assert known(programs, PLAN) == "evaluate"


def test_programs_are_compiled_once_and_charged_to_the_first_who_asks(
    programs: ProgramCache, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(program_cache, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    twin = dataclasses.replace(PLAN, whole_epochs=True)  # evaluated by the same program
    charged = []
    programs.start([PLAN])
    for plan in (PLAN, twin, PLAN):
        programs.training(plan)
        programs.evaluation(plan)
        charged.append(programs.charge(plan))
    assert charged == [2, 1, 0]
    assert built == ["train 20", "evaluate 20", "train 20"]
    programs.release()
    programs.start([PLAN])
    programs.training(PLAN)
    programs.evaluation(PLAN)
    assert programs.charge(PLAN) == 2


def test_what_cannot_be_compiled_is_a_failure_each_time(programs: ProgramCache, built: list[str]) -> None:
    programs.start([OTHERS[1], OTHERS[2]])
    with pytest.raises(TrainingFailure, match="train too large"):
        programs.training(OTHERS[1])
    with pytest.raises(TrainingFailure, match="evaluate too large"):
        programs.evaluation(OTHERS[2])
    assert known(programs, OTHERS[1]) == "evaluate 22", "its training says nothing about it"
    programs.release()
    for _ in range(2):
        with pytest.raises(TrainingFailure, match="evaluate too large"):
            programs.evaluation(OTHERS[2])


def test_a_failure_keeps_nothing_of_whoever_was_told_of_it(programs: ProgramCache, built: list[str]) -> None:
    class Features:
        """What a phase trains on."""

    def train(features: Features) -> None:
        assert features is not None
        programs.training(OTHERS[1])

    features = Features()
    there = weakref.ref(features)
    with pytest.raises(TrainingFailure):
        train(features)
    del features
    gc.collect()
    assert there() is None


def test_the_oldest_trainings_make_room_and_those_asked_for_again_stay(
    programs: ProgramCache, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "_TRAININGS_KEPT", 2)
    for plan in (PLAN, OTHERS[0], PLAN, OTHERS[2], PLAN):
        programs.training(plan)
    assert built == ["train 20", "train 21", "train 23"]
    programs.training(OTHERS[0])
    assert built[3:] == ["train 21"]


def test_evaluation_of_what_nobody_trains_is_compiled_once_and_charged_to_nobody(
    programs: ProgramCache, built: list[str]
) -> None:
    assert [known(programs, PLAN) for _ in range(2)] == ["evaluate 20"] * 2
    assert built == ["evaluate 20"]
    assert programs.charge(PLAN) == 0.0


def test_evaluations_outlive_trainings_and_the_oldest_make_room(
    programs: ProgramCache, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "_TRAININGS_KEPT", 1)
    monkeypatch.setattr(program_cache, "_EVALUATIONS_KEPT", 2)
    for plan in (PLAN, OTHERS[0]):
        programs.start([plan])
        programs.training(plan)
    assert [known(programs, plan) for plan in (OTHERS[0], PLAN)] == ["evaluate 21", "evaluate 20"]
    assert built == ["train 20", "evaluate 20", "train 21", "evaluate 21"]
    programs.start([OTHERS[1]])
    assert [known(programs, plan) for plan in (PLAN, OTHERS[0])] == ["evaluate 20", "evaluate 21"]
    assert built.count("evaluate 20") == 1 and built.count("evaluate 21") == 2
    programs.release()
    assert known(programs, PLAN) == "evaluate 20"
    assert built.count("evaluate 20") == 2


@pytest.mark.parametrize(
    ("backend", "cores", "threads"),
    [("cpu", 1, 1), ("cpu", 2, 1), ("cpu", 4, 3), ("cpu", 64, 4), ("gpu", 1, 1), ("gpu", 2, 2), ("gpu", 16, 8)],
)
def test_default_threads_leave_a_core_to_training_on_a_cpu(
    backend: str, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(program_cache, "num_threads", lambda: cores)
    assert default_threads() == threads
