"""The local executor's ways on an accelerator, on a CPU: data lie on the device, an epoch is one program."""

from typing import Any

import jax
import pytest

from tests.fitness.executors.executing import Built, OpenExecutor, accuracy, ancestor_of, answers
from vlga_jax.fitness.evaluation import Request
from vlga_jax.fitness.executors import local
from vlga_jax.fitness.executors.local import Ancestor
from vlga_jax.training.features import PhaseData


@pytest.fixture(autouse=True)
def taken_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """This project, not JAX, takes the backend for a GPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def num_live(*shape: int) -> int:
    """How many arrays of a shape JAX holds."""
    return sum(array.shape == shape for array in jax.live_arrays())


def test_run_of_a_line_on_a_device_trains_whole_epochs_and_holds_features_once(
    open_executor: OpenExecutor, make_request: Any, images: PhaseData, built: Built
) -> None:
    parent = make_request()
    heirs = [make_request(heir_of=parent, block=block) for block in ({"pool": None}, {"b": None, "pool": None})]
    executor = open_executor()
    ancestor = ancestor_of(executor, parent)
    before = num_live(256, 3, 3, 4)
    first, *_ = executor.run(heirs, lambda _: ancestor)
    assert num_live(256, 3, 3, 4) - before == 2, "one batch each of training and validation"
    assert first.evaluation.fitness == pytest.approx(accuracy(heirs[0], first, images))
    assert first.evaluation.losses[-1] < first.evaluation.losses[0]
    assert len(built.trainings) == 3 and all(plan.whole_epochs for plan in built.trainings)


def test_run_of_heirs_on_a_device_in_any_order_and_by_anyone_gives_the_same_bits(
    open_executor: OpenExecutor, make_request: Any
) -> None:
    parent = make_request()
    heirs = [make_request(heir_of=parent, block=block) for block in ({"pool": None}, {"b": None, "pool": None})]
    one = open_executor()
    ancestor = ancestor_of(one, parent)
    expected = answers(one, heirs, ancestor)
    other = open_executor(compile_threads=2)
    assert answers(other, heirs[::-1], ancestor) == expected
    grandchild: Request = make_request(heir_of=heirs[0], block={"pool": None, "b": None})
    child: Ancestor = ancestor_of(one, heirs[0], ancestor)
    fresh = open_executor()
    assert answers(one, [grandchild], child) == answers(fresh, [grandchild], child), "from images, too"


@pytest.mark.parametrize(("device", "host"), [(True, False), (False, True), (False, False)])
def test_run_of_an_heir_caches_features_that_fit_the_device_or_the_host(
    device: bool,
    host: bool,
    open_executor: OpenExecutor,
    make_request: Any,
    built: Built,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heir = make_request(heir_of=make_request())
    executor = open_executor()
    ancestor = ancestor_of(executor, make_request())
    monkeypatch.setattr(local, "fits_on_device", lambda *_: device)
    monkeypatch.setattr(local, "fits_in_memory", lambda *_: host)
    (trained,) = executor.run([heir], lambda _: ancestor)
    assert trained.evaluation.status == "ok"
    assert (built.trainings[-1].spec == heir.network.suffix(1)) == (device or host)
