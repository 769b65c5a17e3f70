"""Final training: when it ends, which weights it keeps, and that an interruption at any epoch changes nothing."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.run.finishing import NETWORK, NUM_EPOCHS, request
from tests.trees import assert_same_bits
from vlga_jax.checks import InputError
from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvNet
from vlga_jax.network.whitening import patch_statistics
from vlga_jax.run import checkpoints, finish
from vlga_jax.run.finish import FinalRequest, Progress, train_to_convergence, validation_accuracy
from vlga_jax.run.tracking import NullListener
from vlga_jax.training.examples import Examples
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.features import PhaseData
from vlga_jax.training.fit import EpochEnd, run_epochs

RNG = np.random.default_rng(0)


def examples(size: int) -> Examples:
    return Examples(RNG.integers(0, 256, (size, 4, 4, 3)).astype(np.uint8), RNG.integers(0, 2, size).astype(np.int32))


NOISE = PhaseData(examples(20), examples(31))  # nothing to learn: the validation accuracy goes up and down


def searched() -> dict[str, Any]:
    return initialise(jax.random.key(0), NETWORK)


def never() -> dict[str, Any]:
    raise AssertionError("the searched weights are not needed here")


class Interrupted(BaseException):
    """What stops a final training in the tests below."""


class Watcher(NullListener):
    """Notes what it is told, and stops the training after an epoch if asked to."""

    def __init__(self, stop_after: int | None = None):
        self.stop_after, self.started, self.epochs, self.messages = stop_after, [], [], []  # type: ignore[var-annotated]

    def final_started(self, *, num_epochs: int, first_epoch: int, best_accuracy: float | None) -> None:
        self.started.append((num_epochs, first_epoch, best_accuracy))

    def final_epoch_finished(self, *, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        self.epochs.append(epoch)
        if epoch == self.stop_after:
            raise Interrupted

    def message(self, *, text: str) -> None:
        self.messages.append(text)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Progress]:
    directory = tmp_path_factory.mktemp("undisturbed")
    best, progress, *_ = train_to_convergence(request(), NOISE, searched, directory, NullListener())
    return best, progress


def accuracy_of(variables: dict[str, Any], data: Examples) -> float:
    inputs = jnp.asarray(data.inputs, jnp.float32) / 255
    logits: Any = ConvNet(NETWORK).apply(variables, inputs, train=False)
    return float((np.asarray(logits).argmax(axis=1) == data.labels).mean())


def run_through(accuracies: list[float], patience: int) -> list[Progress]:
    progress, seen = Progress(), []
    for place, accuracy in enumerate(accuracies):
        progress = progress.after(float(place), accuracy, patience)
        seen.append(progress)
    return seen


def test_progress_after_each_epoch_keeps_the_earlier_of_equal_bests() -> None:
    seen = run_through([0.5, 0.7, 0.6, 0.7, 0.8], patience=0)
    assert [progress.best_epoch for progress in seen] == [0, 1, 1, 1, 4]
    assert not any(progress.stopped for progress in seen)
    assert seen[-1].losses == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert seen[-1].accuracies == (0.5, 0.7, 0.6, 0.7, 0.8)
    assert validation_accuracy(seen[3]) == 0.7


def test_progress_after_as_many_epochs_without_a_better_one_as_patience_stops() -> None:
    assert [p.stopped for p in run_through([0.5, 0.4, 0.5, 0.6, 0.6, 0.6], patience=2)] == [0, 0, 1, 0, 0, 1]
    assert [p.stopped for p in run_through([0.5, 0.5], patience=1)] == [False, True]


def test_progress_after_a_first_epoch_that_gets_nothing_right_has_a_best() -> None:
    assert run_through([0.0, 0.0], patience=5)[-1].best_epoch == 0


def test_progress_after_epochs_without_validation_takes_the_last() -> None:
    progress = Progress().after(2.0, None, 1).after(3.0, None, 1)
    assert progress == Progress((2.0, 3.0), (), 1, False)
    assert validation_accuracy(progress) is None


def test_train_to_convergence_returns_the_weights_of_the_best_epoch_not_the_last(undisturbed: Any) -> None:
    best, progress = undisturbed
    assert len(progress.accuracies) == NUM_EPOCHS
    assert progress.accuracies[progress.best_epoch] == max(progress.accuracies) > progress.accuracies[-1]
    assert accuracy_of(best, NOISE.validation) == pytest.approx(max(progress.accuracies))


def test_train_to_convergence_returns_the_average_where_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sevens(*args: Any, **kwargs: Any) -> Iterator[EpochEnd]:
        for end in run_epochs(*args, **kwargs):
            average = jax.tree.map(lambda leaf: jnp.full_like(leaf, 7), end.state.average)
            yield dataclasses.replace(end, state=end.state._replace(average=average))

    monkeypatch.setattr(finish, "run_epochs", sevens)
    best, *_ = train_to_convergence(request(), NOISE, searched, tmp_path, NullListener())
    assert {float(value) for leaf in jax.tree.leaves(best) for value in np.ravel(leaf)} == {7.0}


def test_train_to_convergence_on_a_full_disk_says_so_before_a_checkpoint_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Any
) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1 << 30, free=1 << 20))
        train_to_convergence(request(), NOISE, searched, tmp_path, NullListener())
    assert not list(tmp_path.iterdir())
    best, progress, *_ = train_to_convergence(request(), NOISE, searched, tmp_path, NullListener())
    assert_same_bits(best, undisturbed[0])
    assert progress == undisturbed[1]


def test_train_to_convergence_writes_no_more_often_than_a_tenth_of_the_time_allows_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = ocp.CheckpointManager.save

    def watched(self: Any, step: int, **values: Any) -> bool:
        saved.append(step)
        return save(self, step, **values)

    ticks = iter(range(1000))  # a second passes between two looks at the clock
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    monkeypatch.setattr(ocp.CheckpointManager, "save", watched)
    train_to_convergence(request(epochs=14), NOISE, searched, tmp_path, NullListener())
    # Writing takes from second 1 to 2, so the next is due at 12, when the eleventh epoch ends.
    assert saved == [1, 11, 14]


def test_train_to_convergence_counts_images_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(np.cumsum([0, 2, 100, 4, 100, 2, 100, 9, 100]))  # before and after each of four epochs
    monkeypatch.setattr(finish, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    trained = train_to_convergence(request(), NOISE, searched, tmp_path, NullListener())
    assert trained.images_per_second == 20 / 3  # the median of 2, 4, 2 and 9 s
    again = train_to_convergence(request(), NOISE, never, tmp_path, NullListener())
    assert again.images_per_second is None


@pytest.mark.parametrize("stops", [(0,), (1,), (2,), (3,), (0, 1, 3)])
def test_train_to_convergence_interrupted_after_any_epoch_ends_the_same(
    stops: tuple[int, ...], undisturbed: Any, tmp_path: Path
) -> None:
    for stop in stops:
        with pytest.raises(Interrupted):
            train_to_convergence(request(), NOISE, searched, tmp_path, Watcher(stop_after=stop))
    part = tmp_path / "99.orbax-checkpoint-tmp"  # as a process leaves it that is killed while it writes
    part.mkdir()
    watcher = Watcher()
    best, progress, *_ = train_to_convergence(request(), NOISE, never, tmp_path, watcher)
    assert not part.exists()
    assert watcher.started == [(NUM_EPOCHS, stops[-1] + 1, max(progress.accuracies[: stops[-1] + 1]))]
    assert watcher.epochs == list(range(stops[-1] + 1, NUM_EPOCHS))
    assert progress == undisturbed[1]
    assert_same_bits(best, undisturbed[0])


def undisturbed_as_if_interrupted(final: FinalRequest, start: Callable[[], Any], directory: Path) -> dict[str, Any]:
    """The variables of a training that nothing disturbed, once one that was interrupted twice has ended the same."""
    expected = train_to_convergence(final, NOISE, start, directory / "undisturbed", NullListener())
    for stop in (0, 2):
        with pytest.raises(Interrupted):
            train_to_convergence(final, NOISE, start, directory / "disturbed", Watcher(stop_after=stop))
    best, progress, *_ = train_to_convergence(final, NOISE, never, directory / "disturbed", NullListener())
    assert progress == expected.progress
    assert_same_bits(best, expected.variables)
    return expected.variables


def test_train_to_convergence_interrupted_where_its_weights_are_packed_ends_the_same(tmp_path: Path) -> None:
    undisturbed_as_if_interrupted(request(weight_decay=0.0, ema_decay=0.0), searched, tmp_path)


def test_train_to_convergence_of_a_network_that_whitens_interrupted_ends_the_same(tmp_path: Path) -> None:
    plain = request(init="scratch")
    network = dataclasses.replace(plain.request.network, whitening=True)
    final = dataclasses.replace(plain, request=dataclasses.replace(plain.request, network=network))
    variables = undisturbed_as_if_interrupted(final, never, tmp_path)
    assert_same_bits(variables["batch_stats"]["whitening"], patch_statistics(NOISE.train.inputs))


def test_train_to_convergence_stops_when_patience_runs_out_and_stays_stopped(tmp_path: Path) -> None:
    same = Examples(NOISE.validation.inputs, np.zeros(31, np.int32))
    learnt = PhaseData(Examples(NOISE.train.inputs, np.zeros(20, np.int32)), same)  # all right from some epoch on
    final = request(patience=1, epochs=50, learning_rate=0.1, warmup_epochs=0.0)
    best, progress, *_ = train_to_convergence(final, learnt, searched, tmp_path, NullListener())
    assert progress.stopped
    assert len(progress.losses) == progress.best_epoch + 2 < 50
    watcher = Watcher()
    again, same_progress, *_ = train_to_convergence(final, learnt, never, tmp_path, watcher)
    assert (same_progress, watcher.epochs) == (progress, [])
    assert_same_bits(again, best)


@pytest.mark.parametrize("use_all_data", [False, True])
def test_train_to_convergence_learns_from_validation_images_only_with_all_data(
    use_all_data: bool, tmp_path: Path
) -> None:
    dark, bright = (np.full((10, 4, 4, 3), value, np.uint8) for value in (20, 230))
    images = PhaseData(Examples(dark, np.zeros(10, np.int32)), Examples(bright, np.ones(10, np.int32)))
    final = request(use_all_data=use_all_data, epochs=8, learning_rate=0.1, warmup_epochs=0.0, patience=2)
    best, progress, *_ = train_to_convergence(final, images, searched, tmp_path, NullListener())
    assert accuracy_of(best, images.train) == 1.0
    if use_all_data:
        assert accuracy_of(best, images.validation) == 1.0
        assert (len(progress.losses), progress.accuracies, progress.best_epoch) == (8, (), 7)  # never stopped early
    else:
        assert accuracy_of(best, images.validation) == 0.0  # no bright image was ever seen


def test_train_to_convergence_starts_from_the_searched_weights_or_from_scratch(tmp_path: Path) -> None:
    still: dict[str, Any] = {"learning_rate": 1e-30, "epochs": 1, "weight_decay": 0.0}
    kept, *_ = train_to_convergence(request(**still), NOISE, searched, tmp_path / "kept", NullListener())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-20), kept["params"], searched()["params"])
    scratch, again = (
        train_to_convergence(request(init="scratch", **still), NOISE, never, tmp_path / name, NullListener())[0]
        for name in ("scratch", "again")
    )
    assert_same_bits(scratch, again)
    kernels = [tree["params"]["block_0"]["a"]["conv"]["kernel"] for tree in (scratch, kept)]
    assert (kernels[0] != kernels[1]).mean() > 0.9


def test_train_to_convergence_that_diverges_at_once_names_the_learning_rate(tmp_path: Path) -> None:
    final = request(learning_rate=1e30, weight_decay=1.0, warmup_epochs=0.0)
    with pytest.raises(InputError) as error:
        train_to_convergence(final, NOISE, searched, tmp_path, NullListener())
    assert error.value.field == "config.final.learning_rate"
    assert "\n" not in str(error.value)


def test_train_to_convergence_that_the_compiler_refuses_says_what_may_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TrainingFailure("not_compiled", "could not find any supported configs")

    monkeypatch.setattr(finish, "build", refuse)
    with pytest.raises(InputError, match=r"config\.final\.precision=.*cuDNN.*config\.fitness\.deterministic=false"):
        train_to_convergence(request(), NOISE, searched, tmp_path, NullListener())


def test_train_to_convergence_that_diverges_later_keeps_the_best_so_far(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train_to_convergence(request(), NOISE, searched, tmp_path, Watcher(stop_after=1))
    # The same checkpoints under a schedule that has reached its highest rate by now.
    final = request(learning_rate=1e30, weight_decay=1.0, warmup_epochs=0.0)
    watcher = Watcher()
    best, progress, *_ = train_to_convergence(final, NOISE, never, tmp_path, watcher)
    assert len(progress.losses) == 2
    assert accuracy_of(best, NOISE.validation) == pytest.approx(max(progress.accuracies))
    assert len(watcher.messages) == 1
