"""Small networks, requests and images for the tests of this wing."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vlga_jax.fitness.evaluation import Limits, Request
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training.features import PhaseData
from vlga_jax.training.fit import Examples
from vlga_jax.training.step import Recipe

BLOCK = BlockSpec(ConvSpec(4, 3, True), PoolSpec("max", 2), ConvSpec(4, 1, False), skip=False, dropout_rate=0.0)
RECIPE = Recipe(
    epochs=2,
    batch_size=16,
    optimizer="adam",
    learning_rate=0.01,
    schedule="constant",
    warmup_epochs=0.0,
    weight_decay=0.0,
    label_smoothing=0.0,
    flip=False,
    crop_padding=0,
    precision="float32",
)
REQUEST = Request(
    network=NetworkSpec((6, 6, 1), 3, "relu", "average", (BLOCK,)),
    num_inherited=0,
    inherited_from=None,
    recipe=RECIPE,
    limits=Limits(0.0, 0, 0),
    data="made here",
    seed=0,
)

MakeRequest = Callable[..., Request]


@pytest.fixture(scope="session")
def make_request() -> MakeRequest:
    """Builds a request for one block on 6x6 images of three classes, with fields changed.

    `block` changes the last block, `recipe` and `limits` change their fields; `heir_of` makes it a request for that
    request's blocks, frozen, and one more.
    """

    def make(
        block: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        heir_of: Request | None = None,
        **changes: Any,
    ) -> Request:
        added = dataclasses.replace(BLOCK, **(block or {}))
        inherited = heir_of.network.blocks if heir_of else ()
        request = dataclasses.replace(
            REQUEST,
            network=dataclasses.replace(REQUEST.network, blocks=(*inherited, added)),
            num_inherited=len(inherited),
            inherited_from=heir_of.digest if heir_of else None,
            recipe=dataclasses.replace(RECIPE, **(recipe or {})),
            limits=dataclasses.replace(REQUEST.limits, **(limits or {})),
        )
        return dataclasses.replace(request, **changes)

    return make


@pytest.fixture(scope="session")
def images() -> PhaseData:
    """72 training and 30 validation images of noise, the brighter the higher the class."""
    rng = np.random.default_rng(0)
    parts = []
    for num_examples in (72, 30):
        labels = np.arange(num_examples, dtype=np.int32) % 3
        noise = rng.integers(0, 128, (num_examples, 6, 6, 1))
        inputs = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
        parts.append(Examples(inputs, labels))
    return PhaseData(*parts)
