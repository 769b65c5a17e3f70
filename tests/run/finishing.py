"""What tests of the final training share: a small network, its configuration and requests for it."""

import dataclasses
from typing import Any

from vlga_jax.fitness.evaluation import Limits, Request
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec
from vlga_jax.run.finish import FinalConfig, FinalRequest

NUM_EPOCHS = 4
CONFIG = FinalConfig(
    epochs=NUM_EPOCHS,
    patience=0,
    init="searched",
    widen_to_flops=0,
    use_all_data=False,
    batch_size=8,
    optimizer="adam",
    learning_rate=0.05,
    schedule="cosine",
    warmup_epochs=1.0,
    weight_decay=0.1,
    label_smoothing=0.1,
    flip=True,
    crop_padding=1,
    cutout=2,
    ema_decay=0.9,
    clip_norm=0.0,
    test_flip=False,
    precision="float32",
)
BLOCK = BlockSpec(ConvSpec(3, 3, True), None, None, False, 0.25)
NETWORK = NetworkSpec((4, 4, 3), 2, "relu", "average", (BLOCK,))  # colour images, so that they are augmented


def request(**changes: Any) -> FinalRequest:
    config = dataclasses.replace(CONFIG, **changes)
    searched = Request(NETWORK, 0, None, config.recipe(3, "tuned"), Limits(0.0, 0, 0), "data", 0)
    return FinalRequest(searched, config, "here", searched.data)
