import dataclasses
from typing import Any

import chex
import jax
import numpy as np
import pytest

from tests.fitness.executors.executing import Built, OpenExecutor, accuracy, ancestor_of, answers, bits, nobody
from vlga_jax.fitness.evaluation import Request
from vlga_jax.fitness.executors import local
from vlga_jax.fitness.executors.local import Ancestor
from vlga_jax.network.spec import ConvSpec
from vlga_jax.training import memory
from vlga_jax.training.features import PhaseData


@pytest.fixture
def three(make_request: Any) -> list[Request]:
    """Requests for different networks."""
    return [make_request(), make_request(block={"pool": None}), make_request(block={"b": None, "skip": True})]


def test_run_of_requests_answers_in_their_order(
    open_executor: OpenExecutor, three: list[Request], images: PhaseData
) -> None:
    trained = list(open_executor(compile_threads=2).run(three, nobody))
    assert [answer.evaluation.digest for answer in trained] == [request.digest for request in three]
    for request, answer in zip(three, trained, strict=True):
        assert (answer.evaluation.status, answer.evaluation.reason) == ("ok", "")
        assert answer.evaluation.fitness == pytest.approx(accuracy(request, answer, images))
        first, last = answer.evaluation.losses
        assert last < first
        assert answer.evaluation.train_seconds > 0 and answer.evaluation.compile_seconds > 0


def test_run_of_a_network_without_blocks_trains_its_dense_layer(
    open_executor: OpenExecutor, make_request: Any, images: PhaseData
) -> None:
    network = dataclasses.replace(make_request().network, blocks=())
    request = make_request(network=network, recipe={"epochs": 20, "learning_rate": 0.1})
    (trained,) = open_executor().run([request], nobody)
    assert trained.evaluation.status == "ok", trained.evaluation.reason
    assert trained.evaluation.losses[-1] < trained.evaluation.losses[0] - 0.1
    assert set(trained.variables or {}) == {"params"}
    assert trained.evaluation.fitness == pytest.approx(accuracy(request, trained, images))


def test_run_in_any_order_company_and_threads_gives_the_same_bits(
    open_executor: OpenExecutor, three: list[Request]
) -> None:
    expected = answers(open_executor(), three)
    assert len({str(value) for value in expected.values()}) == 3
    assert answers(open_executor(compile_threads=3), three[::-1]) == expected
    middle = three[1]
    assert answers(open_executor(compile_threads=0), [middle]) == {middle.digest: expected[middle.digest]}
    same = open_executor(compile_threads=2)
    assert answers(same, [middle]) == answers(same, [middle]), "also when its programs were used before"


@pytest.mark.parametrize("changes", [{"seed": 1}, {"data": "elsewhere"}])
def test_run_of_an_equal_network_under_another_digest_gives_other_bits(
    open_executor: OpenExecutor, make_request: Any, changes: dict[str, Any]
) -> None:
    first, second = answers(open_executor(), [make_request(), make_request(**changes)]).values()
    assert first[1:] != second[1:], "the key comes from the digest"


@pytest.mark.parametrize("cache_features", [True, False])
def test_run_of_heirs_in_any_order_gives_the_same_bits(
    open_executor: OpenExecutor, make_request: Any, cache_features: bool
) -> None:
    parent = make_request()
    heirs = [make_request(heir_of=parent, block=block) for block in ({"pool": None}, {"b": None, "pool": None})]
    one = open_executor(cache_features=cache_features)
    ancestor = ancestor_of(one, parent)
    expected = answers(one, heirs, ancestor)
    other = open_executor(cache_features=cache_features, compile_threads=2)
    assert answers(other, heirs[::-1], ancestor) == expected, "also by an executor that did not train the ancestor"
    grandchild = make_request(heir_of=heirs[0], block={"pool": None, "b": None})
    (heir,) = one.run(heirs[:1], lambda _: ancestor)
    assert heir.variables is not None
    child = Ancestor(heirs[0], heir.variables)
    fresh = open_executor(cache_features=cache_features)
    assert answers(one, [grandchild], child) == answers(fresh, [grandchild], child)
    assert answers(one, heirs, ancestor) == expected, "also after it went on to the next phase"


@pytest.mark.parametrize("cache_features", [True, False])
def test_run_of_an_heir_leaves_inherited_weights_as_they_are(
    open_executor: OpenExecutor, make_request: Any, images: PhaseData, cache_features: bool
) -> None:
    parent = make_request()
    executor = open_executor(cache_features=cache_features)
    ancestor = ancestor_of(executor, parent)
    heir = make_request(heir_of=parent)
    (trained,) = executor.run([heir], lambda _: ancestor)
    assert trained.evaluation.fitness == pytest.approx(accuracy(heir, trained, images))
    assert trained.variables is not None
    for collection in ("params", "batch_stats"):
        inherited, old = (tree[collection]["block_0"] for tree in (trained.variables, ancestor.variables))
        chex.assert_trees_all_equal(inherited, old)
        assert {"block_0", "block_1"} <= set(trained.variables[collection])
    assert trained.variables["params"]["head"]["kernel"].shape == (4, 3)


def test_run_of_heirs_with_and_without_cached_features_agrees(open_executor: OpenExecutor, make_request: Any) -> None:
    parent = make_request()
    heir = make_request(heir_of=parent)
    executor = open_executor()
    ancestor = ancestor_of(executor, parent)
    (cached,) = executor.run([heir], lambda _: ancestor)
    (recomputed,) = open_executor(cache_features=False).run([heir], lambda _: ancestor)
    assert abs(cached.evaluation.fitness - recomputed.evaluation.fitness) <= 1e-3
    chex.assert_trees_all_close(cached.variables, recomputed.variables, atol=1e-4)


def test_run_of_a_diverging_network_fails_and_the_next_is_trained(
    open_executor: OpenExecutor, make_request: Any, three: list[Request]
) -> None:
    wild = make_request(recipe={"learning_rate": 1e30})
    failed, fine = open_executor().run([wild, three[1]], nobody)
    assert (failed.evaluation.status, failed.evaluation.fitness, failed.variables) == ("diverged", 0.0, None)
    assert "not finite" in failed.evaluation.reason
    assert answers(open_executor(), [three[1]]) == {three[1].digest: bits(fine)}


def test_run_of_a_network_that_does_not_fit_fails_and_the_next_is_trained(
    open_executor: OpenExecutor, make_request: Any, three: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(open_executor(), three[:1])
    wide = make_request(block={"a": ConvSpec(256, 3, True), "b": ConvSpec(256, 3, True)})  # 590,000 values in b
    monkeypatch.setattr(memory, "total_bytes", lambda: 4 * 590_000 * 2)
    failed, fine = open_executor().run([wide, three[0]], nobody)
    assert (failed.evaluation.status, failed.evaluation.fitness, failed.variables) == ("out_of_memory", 0.0, None)
    assert "GB" in failed.evaluation.reason
    assert {three[0].digest: bits(fine)} == expected


def test_run_of_heirs_compiles_for_where_their_features_will_lie(
    open_executor: OpenExecutor, make_request: Any, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a phase's features are there, its programs are compiled for features on the device if they will fit."""
    parent = make_request()
    heir = make_request(heir_of=parent)
    executor = open_executor()
    ancestor = ancestor_of(executor, parent)
    built.trainings.clear()
    monkeypatch.setattr(local, "fits_on_device", lambda *_: True)
    (trained,) = executor.run([heir], lambda _: ancestor)
    # Here they did not come to lie on a device after all, so programs that take steps are compiled then.
    assert [plan.whole_epochs for plan in built.trainings] == [True, False]
    assert {plan.spec for plan in built.trainings} == {heir.network.suffix(1)}
    assert trained.evaluation.status == "ok"


def test_run_of_heirs_compiles_nothing_for_the_features_of_those_it_trained(
    open_executor: OpenExecutor, make_request: Any, built: Built
) -> None:
    parent = make_request()
    child = make_request(heir_of=parent, block={"pool": None})
    grandchild = make_request(heir_of=child, block={"pool": None, "b": None})
    executor = open_executor()
    line = ancestor_of(executor, child, ancestor_of(executor, parent))
    expected = answers(executor, [grandchild], line)
    assert [plan.spec for plan in built.evaluations] == [plan.spec for plan in built.trainings]
    built.evaluations.clear()
    other = open_executor()
    assert answers(other, [grandchild], line) == expected, "also by an executor that has to compile them"
    compiled = [plan.spec.blocks for plan in built.evaluations]
    assert sorted(compiled, key=repr) == sorted([(block,) for block in grandchild.network.blocks], key=repr)


def test_run_past_max_seconds_fails_unless_the_result_is_known_already(
    open_executor: OpenExecutor, make_request: Any, three: list[Request]
) -> None:
    late = make_request(limits={"max_seconds": 1e-6})
    executor = open_executor()
    failed, fine = executor.run([late, three[1]], nobody)
    assert (failed.evaluation.status, failed.evaluation.fitness, failed.variables) == ("out_of_time", 0.0, None)
    assert "max_seconds" in failed.evaluation.reason
    assert fine.evaluation.status == "ok"
    (again,) = executor.run([late], nobody, limit_time=False)
    assert again.evaluation.status == "ok" and again.variables is not None


def test_run_within_max_seconds_is_ok(open_executor: OpenExecutor, make_request: Any) -> None:
    (trained,) = open_executor().run([make_request(limits={"max_seconds": 600.0})], nobody)
    assert trained.evaluation.status == "ok"


def test_run_of_a_rejected_network_trains_nothing(open_executor: OpenExecutor, make_request: Any) -> None:
    told: list[str] = []
    executor = open_executor(on_epoch=lambda digest, *_: told.append(digest))
    fine, large = make_request(), make_request(limits={"max_parameters": 1})
    rejected, trained, also = executor.run([large, fine, dataclasses.replace(large, seed=1)], nobody)
    for answer in (rejected, also):
        assert (answer.evaluation.status, answer.evaluation.fitness) == ("too_many_parameters", 0.0)
        assert answer.variables is None and answer.evaluation.train_seconds == 0.0
    assert trained.evaluation.status == "ok"
    assert set(told) == {fine.digest}


def test_run_of_any_network_tells_of_each_epoch(open_executor: OpenExecutor, make_request: Any) -> None:
    told: list[tuple[str, int, int, float]] = []
    request = make_request(recipe={"epochs": 3})
    (trained,) = open_executor(on_epoch=lambda *event: told.append(event)).run([request], nobody)
    assert told == [(request.digest, epoch, 3, loss) for epoch, loss in enumerate(trained.evaluation.losses)]


def test_run_with_a_programming_error_propagates(
    open_executor: OpenExecutor, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        list(open_executor(on_epoch=bug).run([make_request()], nobody))
    monkeypatch.setattr(memory, "total_bytes", bug)  # called where programs are built, in another thread
    with pytest.raises(ZeroDivisionError):
        list(open_executor().run([make_request(recipe={"batch_size": 8})], nobody))


def test_run_in_bfloat16_trains_on_features_of_that_precision(
    open_executor: OpenExecutor, make_request: Any, images: PhaseData
) -> None:
    recipe = dataclasses.replace(make_request().recipe, precision="bfloat16")
    executor = open_executor()
    parent = dataclasses.replace(make_request(), recipe=recipe)
    ancestor = ancestor_of(executor, parent)
    longer = dataclasses.replace(parent.network, blocks=parent.network.blocks * 2)
    child = dataclasses.replace(parent, network=longer, num_inherited=1, inherited_from=parent.digest)
    (trained,) = executor.run([child], lambda _: ancestor)
    assert trained.evaluation.status == "ok", trained.evaluation.reason
    first, last = trained.evaluation.losses
    assert last < first
    assert {leaf.dtype for leaf in jax.tree.leaves(trained.variables)} == {np.dtype("float32")}
    single = accuracy(child, trained, images)
    assert trained.evaluation.fitness == pytest.approx(single, abs=0.1), "also when it runs in float32"


def test_run_from_matching_blocks_starts_with_their_weights_and_trains_them(
    open_executor: OpenExecutor, make_request: Any
) -> None:
    parent = make_request()
    executor = open_executor()
    ancestor = ancestor_of(executor, parent)
    still = make_request(recipe={"learning_rate": 1e-30})
    same = dataclasses.replace(still, inherited_from=parent.digest, sources=(0,))
    fresh = dataclasses.replace(still, inherited_from=parent.digest, sources=(None,))
    (inherited,), (begun,) = (executor.run([request], lambda _: ancestor) for request in (same, fresh))
    assert inherited.variables is not None and begun.variables is not None
    chex.assert_trees_all_equal(inherited.variables["params"], ancestor.variables["params"])
    assert (
        begun.variables["params"]["block_0"]["a"]["conv"]["kernel"]
        != ancestor.variables["params"]["block_0"]["a"]["conv"]["kernel"]
    ).any()
    chex.assert_trees_all_equal(begun.variables["params"]["head"], ancestor.variables["params"]["head"])
    trains = dataclasses.replace(same, recipe=parent.recipe)
    (trained,) = executor.run([trains], lambda _: ancestor)
    assert trained.variables is not None
    moved = jax.tree.map(
        lambda new, old: bool((new != old).any()), trained.variables["params"], ancestor.variables["params"]
    )
    assert all(jax.tree.leaves(moved)), "everything trains on"
