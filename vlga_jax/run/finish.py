"""The end of a run: the winner is trained with all its layers until convergence, checkpointed by Orbax on the way."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlga_jax.checks import InputError, knob
from vlga_jax.fitness.evaluation import Request, digest_of, key_of, without
from vlga_jax.keys import stream
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.network.transfer import Variables
from vlga_jax.network.whitening import patch_statistics
from vlga_jax.network.widening import widened
from vlga_jax.run.tracking import Listener
from vlga_jax.shapes import PRNGKeyArray
from vlga_jax.training.examples import Examples
from vlga_jax.training.failure import DIVERGED, NOT_COMPILED, TrainingFailure
from vlga_jax.training.features import PhaseData, to_device_if_it_fits
from vlga_jax.training.fit import epochs_as_programs, require_finite, run_epochs
from vlga_jax.training.programs import Plan, build
from vlga_jax.training.step import PRECISIONS, Recipe, learnt, resolved_precision

COLOUR_CHANNELS = 3
# Fields that configurations did not always have, off.
_LATER = {"cutout": 0, "ema_decay": 0.0, "test_flip": False, "clip_norm": 0.0}


@dataclasses.dataclass(frozen=True)
class FinalConfig:
    """How the winner is trained; see `Recipe` for the fields it shares.

    Attributes:
      patience: epochs without a better validation accuracy after which training ends; 0 never ends it early.
      init: start from the searched weights, or from scratch.
      widen_to_flops: operations of one image's forward pass that the winner is widened to, 0 leaves it as it was found;
        needs init=scratch.
      use_all_data: train on the validation images too, for all epochs.
      flip, crop_padding, cutout: of colour images only.
      test_flip: whether colour images are tested mirrored, too, both probabilities averaged; a result of its own.
      precision: of the training's activations, as in `Recipe`; the network is exported, and tested, in float32.
    """

    epochs: int = knob(at_least=1)
    patience: int = knob(at_least=0)
    init: str = knob(one_of=("searched", "scratch"))
    widen_to_flops: int = knob(at_least=0)
    use_all_data: bool = knob()
    batch_size: int = knob(at_least=1)
    optimizer: str = knob(one_of=("adam", "sgd"))
    learning_rate: float = knob(above=0)
    schedule: str = knob(one_of=("constant", "cosine"))
    warmup_epochs: float = knob(at_least=0)
    weight_decay: float = knob(at_least=0)
    label_smoothing: float = knob(at_least=0, at_most=0.99)
    flip: bool = knob()
    crop_padding: int = knob(at_least=0, at_most=64)
    cutout: int = knob(at_least=0)
    ema_decay: float = knob(at_least=0, at_most=0.99999)
    clip_norm: float = knob(at_least=0)
    test_flip: bool = knob()
    precision: str = knob(one_of=PRECISIONS)

    def __post_init__(self) -> None:
        if self.widen_to_flops and self.init != "scratch":
            remedy = "a wider network has no searched weights; give config.final.init=scratch, or 0 here"
            raise InputError("config.final.widen_to_flops", self.widen_to_flops, remedy)

    def recipe(self, num_channels: int, layers: str) -> Recipe:
        """Returns the training recipe for images with this many channels, of tuned or plain layers."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}
        values["precision"] = resolved_precision(self.precision, layers)
        if num_channels != COLOUR_CHANNELS:
            values.update(flip=False, crop_padding=0, cutout=0)
        return Recipe(**values)


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a final training is; accuracies lie in [0, 1].

    Attributes:
      losses: of each epoch.
      accuracies: on the validation images, of each epoch; empty where all data are trained on.
      best_epoch: from 0, whose weights count so far.
      stopped: whether patience ran out.
    """

    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()
    best_epoch: int = -1
    stopped: bool = False

    def after(self, loss: float, accuracy: float | None, patience: int) -> "Progress":
        """Returns the progress one epoch later."""
        epoch = len(self.losses)
        losses = (*self.losses, loss)
        if accuracy is None:
            return Progress(losses, (), epoch)
        improved = self.best_epoch < 0 or accuracy > self.accuracies[self.best_epoch]
        best = epoch if improved else self.best_epoch
        stopped = patience > 0 and epoch - best >= patience
        return Progress(losses, (*self.accuracies, accuracy), best, stopped)


class Converged(NamedTuple):
    """What a final training led to.

    Attributes:
      variables: of the best epoch, on the host.
      progress: of the whole training.
      images_per_second: trained on, validation included and checkpoints not; median over the epochs of this process,
        None without any.
      failure: why it ended before its time; empty if it did not fail.
    """

    variables: Variables
    progress: Progress
    images_per_second: float | None
    failure: str = ""


@dataclasses.dataclass(frozen=True)
class FinalRequest:
    """All that a final training depends on, the environment included; its digest names it.

    Attributes:
      request: that gave the winner's fitness.
      config: how it is trained.
      environment: what the bits depend on besides.
      data: fingerprint of what it is trained on, of which `request.data` may be a part.
    """

    request: Request
    config: FinalConfig
    environment: str
    data: str

    @property
    def network(self) -> NetworkSpec:
        """What is trained: the winner, wider if that is asked for."""
        return widened(self.request.network, self.config.widen_to_flops)

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that name this training and its test; later fields count where they are on."""
        return digest_of(self._values(_LATER))

    @property
    def trajectory(self) -> str:
        """The digest of the training alone: what it draws at random follows from this."""
        return digest_of(self._values({**_LATER, "test_flip": self.config.test_flip}))

    def _values(self, left_out: Mapping[str, Any]) -> dict[str, Any]:
        kept = without(dataclasses.asdict(self.config), left_out)
        del kept["widen_to_flops"]  # what came of it counts
        values = {"request": self.request.values(), "config": kept, "environment": self.environment}
        if self.network != self.request.network:
            values["network"] = self.network.to_json()
        return values if self.data == self.request.data else {**values, "data": self.data}


def train_to_convergence(
    final: FinalRequest,
    images: PhaseData,
    searched: Callable[[], Variables],
    directory: Path,
    listener: Listener,
    *,
    layers: str = "tuned",
) -> Converged:
    """Returns the trained variables and how training went.

    Args:
      final: what to train and how.
      images: training and validation images.
      searched: gives the searched weights; called only if they are started from and no epoch is done yet.
      directory: of checkpoints; training goes on from the newest.
      listener: is told of each epoch.
      layers: tuned or plain.

    Raises:
      InputError: the first epoch failed already: it diverged, memory ran out, or the compiler refused it.
    """
    config, network = final.config, final.network
    if config.use_all_data:
        images = PhaseData(_joined(images.train, images.validation), images.validation)
    on_host, images = np.asarray(images.train.inputs), to_device_if_it_fits(images)
    plan = Plan(
        spec=network,
        recipe=config.recipe(network.input_shape[-1], layers),
        num_frozen=0,
        num_train=len(images.train),
        input_dtype="uint8",
        whole_epochs=epochs_as_programs(images.train.inputs),
        layers=layers,
    )
    root = key_of(final.trajectory)
    seconds: list[float] = []
    failure = ""
    from vlga_jax.run.checkpoints import Checkpoints  # not needed before a search ends

    store = Checkpoints(directory)
    try:
        restored = store.restore(plan)
        if restored is None:
            start = searched() if config.init == "searched" else _fresh(stream(root, "init"), network, on_host)
            restored = plan.initial_state(start), start, Progress()
        state, best, progress = restored
        listener.final_started(
            num_epochs=config.epochs,
            first_epoch=len(progress.losses),
            best_accuracy=validation_accuracy(progress),
        )
        if progress.stopped or len(progress.losses) >= config.epochs:
            return Converged(best, progress, None)
        epochs = run_epochs(
            plan,
            build(plan, evaluates=not config.use_all_data),
            state,
            images.train,
            None if config.use_all_data else images.validation,
            stream(root, "train"),
            first_epoch=len(progress.losses),
        )
        started = time.perf_counter()
        for end in epochs:
            state = jax.tree.map(np.array, jax.device_get(end.state))  # all leaves set out at once
            seconds.append(time.perf_counter() - started)
            require_finite(learnt(state))
            progress = progress.after(end.loss, end.accuracy, config.patience)
            if progress.best_epoch == end.epoch:
                best = learnt(state)
            store.offer(state, best, progress)
            listener.final_epoch_finished(
                epoch=end.epoch, num_epochs=config.epochs, loss=end.loss, accuracy=end.accuracy
            )
            if progress.stopped:
                break
            started = time.perf_counter()
    except TrainingFailure as error:
        if progress.best_epoch < 0:
            raise _first_epoch_failed(error, config) from error
        failure = error.reason
        listener.message(text=f"final training ended early: {failure}; the best epoch's weights are kept")
    finally:
        store.close()
    return Converged(best, progress, len(images.train) / statistics.median(seconds) if seconds else None, failure)


def _fresh(key: PRNGKeyArray, network: NetworkSpec, images: np.ndarray) -> Variables:
    return initialise(key, network, patch_statistics(images) if network.whitening else None)


def _first_epoch_failed(error: TrainingFailure, config: FinalConfig) -> InputError:
    why = f"final training failed ({error.reason})"
    if error.status == NOT_COMPILED:
        remedy = "cuDNN may be too old, or be missing a library"
        other = "or search with config.fitness.deterministic=false and another --workdir"
        return InputError("config.final.precision", config.precision, f"{why}; {remedy}; {other}")
    field = "learning_rate" if error.status == DIVERGED else "batch_size"
    return InputError(f"config.final.{field}", getattr(config, field), f"{why}; give a smaller one")


def _joined(first: Examples, second: Examples) -> Examples:
    return Examples(np.concatenate([first.inputs, second.inputs]), np.concatenate([first.labels, second.labels]))


def validation_accuracy(progress: Progress) -> float | None:
    """Returns the best epoch's accuracy on the validation images; None where they were trained on."""
    return progress.accuracies[progress.best_epoch] if progress.accuracies else None
