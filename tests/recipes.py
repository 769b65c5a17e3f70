"""The recipe that tests of training begin with; each says what it changes."""

from vlga_jax.training.step import Recipe

PLAIN = Recipe(
    epochs=3,
    batch_size=8,
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
