import contextlib
import dataclasses
from collections.abc import Iterator

import jax
import pytest

from tests.training.fitting import PLAN
from vlga_jax.training import program_cache
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.program_cache import ProgramCache, default_threads
from vlga_jax.training.programs import Plan, Programs

OTHERS = [dataclasses.replace(PLAN, num_train=size) for size in (21, 22, 23)]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Plans in the order in which they were compiled, for which no compiler is asked here."""
    plans: list[Plan] = []

    def build(plan: Plan) -> Programs:
        plans.append(plan)
        if plan.num_train == 22:
            raise TrainingFailure("out_of_memory", "too large")
        return Programs(train=None, evaluate=f"of {plan.num_train}", compile_seconds=2.0)

    monkeypatch.setattr(program_cache, "build", build)
    monkeypatch.setattr(program_cache, "build_evaluation", lambda plan: f"alone, of {plan.num_train}")
    return plans


@pytest.fixture
def programs() -> Iterator[ProgramCache]:
    with contextlib.closing(ProgramCache(threads=1)) as cache:
        yield cache


def test_programs_are_compiled_once_and_charged_to_the_first_who_asks(
    programs: ProgramCache, built: list[Plan]
) -> None:
    assert [programs.of(plan)[1] for plan in (PLAN, OTHERS[0], PLAN)] == [2.0, 2.0, 0.0]
    assert built == [PLAN, OTHERS[0]]
    programs.release()
    assert programs.of(PLAN)[1] == 2.0


def test_start_begins_with_one_more_than_there_are_threads(programs: ProgramCache, built: list[Plan]) -> None:
    programs.start(plan for plan in (PLAN, OTHERS[0], OTHERS[2]))
    programs.of(OTHERS[0])
    assert built == [PLAN, OTHERS[0]]


def test_the_oldest_programs_make_room_and_those_asked_for_again_stay(
    programs: ProgramCache, built: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "_PROGRAMS_KEPT", 2)
    for plan in (PLAN, OTHERS[0], PLAN, OTHERS[2], PLAN):
        programs.of(plan)
    assert built == [PLAN, OTHERS[0], OTHERS[2]]
    programs.of(OTHERS[0])
    assert built[3:] == [OTHERS[0]]


def test_evaluation_is_that_of_a_training_unless_there_is_none(programs: ProgramCache, built: list[Plan]) -> None:
    assert programs.evaluation(PLAN) == "alone, of 20"
    assert programs.evaluation(PLAN) == "alone, of 20", "known by now"
    programs.of(PLAN)
    assert programs.evaluation(dataclasses.replace(PLAN, whole_epochs=True)) == "of 20"
    with pytest.raises(TrainingFailure, match="too large"):
        programs.of(OTHERS[1])
    assert programs.evaluation(OTHERS[1]) == "alone, of 22", "its own could not be compiled"
    assert built == [PLAN, OTHERS[1]]


def test_evaluations_outlive_trainings_and_the_oldest_make_room(
    programs: ProgramCache, built: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "_PROGRAMS_KEPT", 1)
    monkeypatch.setattr(program_cache, "_EVALUATIONS_KEPT", 2)
    for plan in (PLAN, OTHERS[0]):
        programs.of(plan)
    programs.start([OTHERS[2]])
    assert [programs.evaluation(plan) for plan in (OTHERS[0], PLAN)] == ["of 21", "of 20"]
    programs.of(OTHERS[2])
    assert [programs.evaluation(plan) for plan in (PLAN, OTHERS[0])] == ["of 20", "alone, of 21"]
    programs.release()
    assert programs.evaluation(PLAN) == "alone, of 20"


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
