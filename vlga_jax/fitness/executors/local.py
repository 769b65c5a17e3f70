"""Evaluates requests on this machine: programs are compiled in threads while other networks train.

Results come in the order of the requests and depend on nothing but them.
"""

import collections
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import jax
import numpy as np

from vlga_jax.fitness.evaluation import Evaluation, Request, failure, key_of
from vlga_jax.fitness.status import OK
from vlga_jax.keys import stream
from vlga_jax.network import transfer
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.network.transfer import Variables
from vlga_jax.network.whitening import PatchStatistics, patch_statistics
from vlga_jax.training.failure import TrainingFailure, failures_of_the_network
from vlga_jax.training.features import (
    PhaseData,
    PrefixFeatures,
    fits_in_memory,
    fits_on_device,
    to_device_if_it_fits,
)
from vlga_jax.training.fit import count_correct, epochs_as_programs, require_finite, run_epochs
from vlga_jax.training.program_cache import ProgramCache
from vlga_jax.training.programs import Plan, Programs
from vlga_jax.training.step import TrainState, learnt


@dataclasses.dataclass(frozen=True)
class Ancestor:
    """An evaluated request that others inherit from, with the variables of its whole network."""

    request: Request
    variables: Variables


FindAncestor = Callable[[Request], Ancestor | None]
"""From a request to what it inherits from, None where it starts afresh."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """An evaluation and, if it is ok, the variables of the whole network, on the host."""

    evaluation: Evaluation
    variables: Variables | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Paused:
    """A training that may go on: its state on the host, the loss of each epoch, and how long it took."""

    state: TrainState
    losses: tuple[float, ...]
    train_seconds: float


class LocalExecutor:
    """Trains requested networks one after the other.

    Args:
      images: training and validation images, uint8, and labels.
      cache_features: whether a frozen prefix's outputs are computed once (where memory allows) or with every batch.
      compile_threads: programs compiled at a time, as for `ProgramCache`.
      layers: tuned or plain, as in `vlga_jax.network.modules`.
      on_epoch: told digest, epoch from 0, epochs in all and mean loss.

    Attributes:
      seconds: what the caller's thread spent on features, on waiting for programs, and on training.
    """

    def __init__(
        self,
        images: PhaseData,
        *,
        cache_features: bool,
        compile_threads: int,
        layers: str = "tuned",
        on_epoch: Callable[[str, int, int, float], None] = lambda *_: None,
    ):
        self._images = images
        self._device_images = to_device_if_it_fits(images)
        self._cache_features = cache_features
        self._layers = layers
        self._programs = ProgramCache(compile_threads)
        self._features = PrefixFeatures(images, self._programs.evaluation)
        self._phase_data: tuple[str | None, PhaseData] = (None, self._device_images)
        self._paused: dict[str, _Paused] = {}
        self._on_epoch = on_epoch
        self.seconds = dict.fromkeys(("features", "waiting", "training"), 0.0)

    def run(
        self, requests: Sequence[Request], find_ancestor: FindAncestor, *, limit_time: bool = True
    ) -> Iterator[Trained]:
        """Yields the answer to each request, in their order.

        A training that was judged before its end goes on where it was, unless `keep_paused` let go of it.

        Args:
          requests: what to train.
          find_ancestor: called when a request's turn comes.
          limit_time: whether `max_seconds` counts; not when a known result's weights are made again.
        """
        waiting = collections.deque(request for request in requests if request.rejection() is None)
        finished = time.perf_counter()
        for request in requests:
            rejection = request.rejection()
            if rejection is not None:
                yield Trained(failure(request, *rejection), None)
                continue
            self._programs.start(self._plan(one) for one in waiting)
            waiting.popleft()
            trained = self._train(request, find_ancestor(request), limit_time)
            now = time.perf_counter()
            evaluation = dataclasses.replace(trained.evaluation, wall_seconds=now - finished)
            finished = now
            yield dataclasses.replace(trained, evaluation=evaluation)

    def keep_paused(self, trajectories: Collection[str]) -> None:
        """Lets go of the state of every paused training but these."""
        self._paused = {name: paused for name, paused in self._paused.items() if name in trajectories}

    def release(self) -> None:
        """Lets go of features, programs and paused trainings; they are made again if they are asked for."""
        self.forget_features()
        self._programs.release()
        self._paused.clear()

    def forget_features(self) -> None:
        """Lets go of features: a network that is trained whole needs their room on the device."""
        self._features = PrefixFeatures(self._images, self._programs.evaluation)
        self._phase_data = (None, self._device_images)

    def close(self) -> None:
        """Waits for no program that nobody will run."""
        self._programs.close()

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - started

    def _caches_features(self, request: Request) -> bool:
        if request.num_inherited == 0 or not self._cache_features:
            return False
        kind = self._features_of(request)
        return fits_on_device(*kind) or fits_in_memory(*kind)

    def _features_of(self, request: Request) -> tuple[NetworkSpec, int, int, str]:
        """What decides how large the features are that a request trains on."""
        num_examples = len(self._images.train) + len(self._images.validation)
        return request.network, request.num_inherited, num_examples, request.recipe.precision

    def _data_of(self, request: Request, ancestor: Ancestor | None) -> PhaseData:
        """What a network trains on: images or, if they are cached, features of its frozen prefix."""
        if ancestor is None or not self._caches_features(request):
            if request.sources is not None and jax.default_backend() != "cpu":
                self.forget_features()  # a whole network needs their room on the device
            return self._device_images
        origin = ancestor.request
        if self._phase_data[0] != origin.digest:
            self._phase_data = (None, self._device_images)  # makes room on the device
            features = self._features.of(
                origin.digest,
                origin.inherited_from if origin.num_inherited else None,
                self._plan_on_images(origin),
                ancestor.variables,
                origin.num_inherited,
            )
            self._phase_data = (origin.digest, to_device_if_it_fits(features))
        return self._phase_data[1]

    def _plan(self, request: Request) -> Plan:
        """What the request's programs depend on, as far as it is known: features that should fit might not."""
        cached = self._caches_features(request)
        if cached and self._phase_data[0] != request.inherited_from:
            whole_epochs = fits_on_device(*self._features_of(request))
        else:
            data = self._phase_data[1] if cached else self._device_images
            whole_epochs = epochs_as_programs(data.train.inputs)
        plan = dataclasses.replace(self._plan_on_images(request), whole_epochs=whole_epochs)
        if not cached:
            return plan
        spec = request.network.suffix(request.num_inherited)
        return dataclasses.replace(plan, spec=spec, num_frozen=0, input_dtype=request.recipe.precision)

    def _plan_on_images(self, request: Request) -> Plan:
        return Plan(
            spec=request.network,
            recipe=request.recipe,
            num_frozen=request.num_inherited,
            num_train=len(self._images.train),
            input_dtype="uint8",
            whole_epochs=False,
            layers=self._layers,
        )

    def _train(self, request: Request, ancestor: Ancestor | None, limit_time: bool) -> Trained:
        with self._timed("features"):
            data = self._data_of(request, ancestor)
            whitening = self._whitening if request.network.suffix(request.num_inherited).whitening else None
        plan = self._plan(request)
        started = time.perf_counter()
        paused = self._paused.pop(request.trajectory, None)
        losses = list(paused.losses) if paused is not None else []
        before = paused.train_seconds if paused is not None else 0.0
        try:
            with self._timed("waiting"):
                programs = Programs(self._programs.training(plan), None)
            limit = request.limits.max_seconds if limit_time else 0
            key = stream(key_of(request.trajectory), "train")
            with self._timed("training"), failures_of_the_network():
                if paused is not None:
                    state = paused.state
                else:
                    state = plan.initial_state(_initial_variables(request, plan, ancestor, whitening))
                started = time.perf_counter()
                deadline = started + limit - before if limit else float("inf")
                for end in run_epochs(
                    plan,
                    programs,
                    state,
                    data.train,
                    None,
                    key,
                    first_epoch=len(losses),
                    last_epoch=request.num_epochs,
                    deadline=deadline,
                ):
                    losses.append(end.loss)
                    state = end.state
                    self._on_epoch(request.digest, end.epoch, plan.recipe.epochs, end.loss)
            train_seconds = time.perf_counter() - started
            try:
                with self._timed("waiting"):
                    programs = dataclasses.replace(programs, evaluate=self._programs.evaluation(plan))
            finally:
                started = time.perf_counter() - train_seconds  # waiting is no training
            with self._timed("training"), failures_of_the_network():
                variables = _whole(request, plan, ancestor, learnt(state))
                require_finite(variables)
                fitness = count_correct(programs, state, data.validation) / len(data.validation)
        except TrainingFailure as error:
            seconds = {
                "train_seconds": time.perf_counter() - started,
                "compile_seconds": self._programs.charge(plan),
            }
            return Trained(failure(request, error.status, error.reason, losses=tuple(losses), **seconds), None)
        train_seconds = time.perf_counter() - started
        if request.train_epochs is not None:
            host_state = jax.tree.map(lambda leaf: np.array(leaf), state)
            self._paused[request.trajectory] = _Paused(host_state, tuple(losses), before + train_seconds)
        compile_seconds = self._programs.charge(plan)
        return Trained(
            Evaluation(request.digest, OK, fitness, "", tuple(losses), train_seconds, compile_seconds), variables
        )

    @functools.cached_property
    def _whitening(self) -> PatchStatistics:
        return patch_statistics(self._images.train.inputs)


def _initial_variables(
    request: Request, plan: Plan, ancestor: Ancestor | None, whitening: PatchStatistics | None
) -> Variables:
    """Fresh weights of what is new; where the plan holds the frozen prefix, or starts from others', those too."""
    key, new = stream(key_of(request.trajectory), "init"), request.network.suffix(request.num_inherited)
    fresh = initialise(key, new, whitening)
    if ancestor is None:
        return fresh
    if request.sources is not None:
        return transfer.matching(fresh, ancestor.variables, request.sources)
    return transfer.merge(ancestor.variables, fresh, plan.num_frozen) if plan.num_frozen else fresh


def _whole(request: Request, plan: Plan, ancestor: Ancestor | None, own: Variables) -> Variables:
    """The variables of the whole network, copied to the host."""
    own = jax.tree.map(lambda leaf: np.array(leaf), own)
    left_out = request.num_inherited - plan.num_frozen
    return transfer.merge(ancestor.variables, own, left_out) if ancestor is not None and left_out else own
