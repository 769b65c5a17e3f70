"""Fitness as a pure function of a request: what is asked, what is answered, and the policy for failures.

A request's digest is the SHA-256 of its canonical JSON; the key that initialises and shuffles comes from the digest. So
equal networks are trained once, and a result does not depend on the order, the worker or the load of the machine.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vlga_jax.checks import knob
from vlga_jax.fitness.status import too_many
from vlga_jax.network.spec import NetworkSpec, count_flops, count_parameters, from_json
from vlga_jax.shapes import PRNGKeyArray
from vlga_jax.training.step import PRECISIONS, Recipe, resolved_precision

WORST_FITNESS = 0.0
# Fields that recipes, limits and networks did not always have. Where they are off they are left out: old ledgers count.
_LATER = {"cutout": 0, "ema_decay": 0.0, "clip_norm": 0.0}
_LATER_LIMITS = {"max_block_flops": 0}
_LATER_NETWORK = {"whitening": False}


@dataclasses.dataclass(frozen=True)
class FitnessConfig:
    """How a network's fitness is measured; see `Recipe` for the training itself.

    Attributes:
      max_seconds: of training a network, compilation not counted; 0 is no limit. Results then depend on the machine.
      max_parameters: more are rejected before training; 0 is no limit.
      max_flops: floating-point operations of one image's forward pass, likewise.
      max_block_flops: of its costliest block alone, likewise. Without it the first blocks, on the largest maps, may
        take all of `max_flops`; later phases are sure of room where this times the blocks is no more than that.
      num_train_examples: on how many of the training examples, at most, a fitness is trained, validation not counted;
        a stratified part, drawn by `data.split_seed`. 0 is all. The final training takes all.
      features: whether the frozen prefix's outputs are computed once per phase (cached, where memory allows) or with
        every batch (recomputed).
      ledger: path of another run's ledger.sqlite whose results are used where digests agree; empty is none.
      any_environment: whether results measured on another backend, device kind or version, or under
        other XLA flags, count as known.
      compile_threads: programs compiled at a time while networks train; 0 chooses by the number of cores.
      deterministic: whether GPU kernels are chosen for the same bits every time.
      precision: as in `Recipe`; auto becomes what this machine is made for before a request is named.
      layers: tuned (this project's convolutions and batch norm) or plain (those of XLA and Flax); results differ by
        rounding.
    """

    epochs: int = knob(at_least=1)
    batch_size: int = knob(at_least=1)
    optimizer: str = knob(one_of=("adam", "sgd"))
    learning_rate: float = knob(above=0)
    schedule: str = knob(one_of=("constant", "cosine"))
    warmup_epochs: float = knob(at_least=0)
    weight_decay: float = knob(at_least=0)
    label_smoothing: float = knob(at_least=0, at_most=0.99)
    max_seconds: float = knob(at_least=0)
    max_parameters: int = knob(at_least=0)
    max_flops: int = knob(at_least=0)
    max_block_flops: int = knob(at_least=0)
    num_train_examples: int = knob(at_least=0)
    features: str = knob(one_of=("cached", "recomputed"))
    ledger: str = knob(may_be_empty=True)
    any_environment: bool = knob()
    compile_threads: int = knob(at_least=0)
    deterministic: bool = knob()
    layers: str = knob(one_of=("tuned", "plain"))
    precision: str = knob(one_of=PRECISIONS)

    def recipe(self) -> Recipe:
        """Returns the training recipe; augmentation is left to the final training, since features are computed once."""
        names = {field.name for field in dataclasses.fields(Recipe)} - {"flip", "crop_padding", "precision", *_LATER}
        values = {name: getattr(self, name) for name in names}
        return Recipe(**values, flip=False, crop_padding=0, precision=resolved_precision(self.precision, self.layers))

    def limits(self) -> "Limits":
        return Limits(self.max_seconds, self.max_parameters, self.max_flops, self.max_block_flops)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a network may cost; 0 is no limit. See `FitnessConfig`."""

    max_seconds: float
    max_parameters: int
    max_flops: int
    max_block_flops: int = 0


@dataclasses.dataclass(frozen=True)
class Request:
    """A question whose answer is a fitness.

    Attributes:
      network: what is trained.
      num_inherited: its leading blocks that are inherited and frozen.
      inherited_from: digest of the request whose weights it starts from; None if it starts afresh.
      sources: for each block, the block of `inherited_from` whose weights it starts from, where shapes agree; None
        where it is fresh; the head's go along where shapes agree. None in place of all: only the frozen blocks do.
      recipe: how the rest is trained.
      train_epochs: after how many of the recipe's epochs it is judged; None is all of them.
      limits: what it may cost.
      data: fingerprint of the training and validation data.
      seed: of the run.
    """

    network: NetworkSpec
    num_inherited: int
    inherited_from: str | None
    recipe: Recipe
    limits: Limits
    data: str
    seed: int
    sources: tuple[int | None, ...] | None = None
    train_epochs: int | None = None

    @functools.cached_property
    def digest(self) -> str:
        """64 hexadecimal digits that name this request; limits are left out, so that one that does not bind is none."""
        values = self.values()
        del values["limits"]
        return digest_of(values)

    @functools.cached_property
    def trajectory(self) -> str:
        """The digest of the same training judged after all its epochs; what it draws at random follows from this."""
        return self.digest if self.train_epochs is None else dataclasses.replace(self, train_epochs=None).digest

    @property
    def num_epochs(self) -> int:
        """After how many epochs it is judged."""
        return self.recipe.epochs if self.train_epochs is None else self.train_epochs

    def until(self, num_epochs: int) -> "Request":
        """Returns the same training, judged after so many epochs."""
        return dataclasses.replace(self, train_epochs=None if num_epochs == self.recipe.epochs else num_epochs)

    def to_json(self) -> str:
        """Returns the canonical JSON, from which `request_from_json` restores the request."""
        return canonical_json(self.values())

    def values(self) -> dict[str, Any]:
        """Returns nested mappings of plain values."""
        values = dataclasses.asdict(self)
        recipe, limits = without(values["recipe"], _LATER), without(values["limits"], _LATER_LIMITS)
        network = without(values["network"], _LATER_NETWORK)
        return {**values, "network": network, "recipe": recipe, "limits": limits}

    def rejection(self) -> tuple[str, str] | None:
        """Returns status and reason if a limit forbids the training, else None."""
        blocks = map(self.network.block_flops, range(len(self.network.blocks)))
        costs = {
            "parameters": (count_parameters(self.network), "parameters"),
            "flops": (count_flops(self.network), "flops"),
            "block_flops": (max(blocks, default=0), "flops in its costliest block"),
        }
        for name, (cost, unit) in costs.items():
            limit = getattr(self.limits, f"max_{name}")
            if limit and cost > limit:
                return too_many(name), f"{cost} {unit}, over fitness.max_{name}={limit}"
        return None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The answer to a request.

    Attributes:
      digest: of the request.
      status: ok; or diverged, out_of_memory, out_of_time, not_compiled, too_many_parameters, too_many_flops,
        too_many_block_flops.
      fitness: validation accuracy in [0, 1]; the worst, 0, unless ok.
      reason: one line, empty if ok.
      losses: mean training loss of each whole epoch.
      train_seconds, compile_seconds: what it took here, in whatever threads.
      wall_seconds: by how much it delayed what came after it.
    """

    digest: str
    status: str
    fitness: float
    reason: str = ""
    losses: tuple[float, ...] = ()
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    wall_seconds: float = 0.0


def failure(
    request: Request,
    status: str,
    reason: str,
    *,
    losses: tuple[float, ...] = (),
    train_seconds: float = 0.0,
    compile_seconds: float = 0.0,
) -> Evaluation:
    """Returns the evaluation of a network that could not be trained: the worst fitness, with the reason."""
    return Evaluation(request.digest, status, WORST_FITNESS, reason, losses, train_seconds, compile_seconds)


def request_from_json(text: str) -> Request:
    """Returns the request that `Request.to_json` wrote."""
    values = json.loads(text)
    return Request(
        **{
            **values,
            "network": from_json(values["network"]),
            "sources": None if values["sources"] is None else tuple(values["sources"]),
            "recipe": Recipe(**values["recipe"]),
            "limits": Limits(**values["limits"]),
        }
    )


def without(values: Mapping[str, Any], off: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that are not what `off` has under their names."""
    return {name: value for name, value in values.items() if name not in off or value != off[name]}


def canonical_json(values: Any) -> str:
    """Returns JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(values: Any) -> str:
    """Returns the SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def key_of(digest: str) -> PRNGKeyArray:
    """Returns the root key of a training: the first 64 bits of its digest."""
    words = [int(digest[start : start + 8], 16) for start in (0, 8)]
    return jax.random.wrap_key_data(jnp.array(words, jnp.uint32), impl="threefry2x32")
