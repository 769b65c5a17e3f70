"""The states of a final training on disk. A module of its own: Orbax takes a tenth of a second to import."""

import dataclasses
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from vlga_jax.disk import require_space
from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.transfer import Variables
from vlga_jax.run.finish import Progress
from vlga_jax.training.programs import Plan
from vlga_jax.training.step import TrainState, learnt

_SHARE = 0.1  # of the time of a final training, at most


class Checkpoints:
    """The newest states of a final training; two are kept, so that one is whole whenever the process dies.

    A state is written once enough time has passed for what that takes, and the newest at the end: a process that is
    interrupted loses nothing, one that is killed the last epochs.

    Args:
      directory: of this training alone.
    """

    def __init__(self, directory: Path):
        for part in directory.glob("*.orbax-checkpoint-tmp*"):  # of a process that was killed; Orbax would warn of each
            shutil.rmtree(part, ignore_errors=True)
        self._directory = directory.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._unsaved: tuple[TrainState, Variables, Progress] | None = None
        self._due = 0.0  # `time.monotonic()` from which on the next one is written

    def offer(self, state: TrainState, best: Variables, progress: Progress) -> None:
        """Takes the state after an epoch, to be written now or, if it is still the newest, at the end."""
        self._unsaved = state, best, progress
        if time.monotonic() >= self._due:
            self._save(*self._unsaved)

    def _save(self, state: TrainState, best: Variables, progress: Progress) -> None:
        started = time.monotonic()
        arrays = {"state": state._asdict(), "best": best}
        require_space(self._directory, sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
        self._manager.save(
            len(progress.losses),
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
            ),
        )
        self._unsaved = None
        ended = time.monotonic()
        self._due = ended + (ended - started) / _SHARE

    def restore(self, plan: Plan) -> tuple[TrainState, Variables, Progress] | None:
        """Returns the newest state, the best epoch's variables and how far it was; None where there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        shapes = variable_shapes(plan.spec)
        blank = plan.initial_state(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
        target = {"state": blank._asdict(), "best": learnt(blank)}
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(target),
                progress=ocp.args.JsonRestore(),
            ),
        )
        arrays = jax.tree.map(np.asarray, restored["arrays"])
        values = restored["progress"]
        progress = Progress(**{**values, "losses": tuple(values["losses"]), "accuracies": tuple(values["accuracies"])})
        return TrainState(**arrays["state"]), arrays["best"], progress

    def close(self) -> None:
        """Writes the newest state, if it is not yet."""
        try:
            if self._unsaved is not None:
                self._save(*self._unsaved)
        finally:
            self._manager.close()
