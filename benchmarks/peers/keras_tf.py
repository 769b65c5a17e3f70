"""The benchmark's work in Keras 3 on TensorFlow, built and trained as the course report's code does it.

    python keras_tf.py --job=JOB.json --json=OUT.json

JOB holds what is trained on which images, OUT what each network took; README.md says how. Every individual is trained
for itself, by `Model.fit`. A frozen prefix is layers that are not trainable, called with `training=False`.
"""

import time

_STARTED = time.perf_counter()

import argparse  # noqa: E402  (imports count, so the clock starts before them)
import gc  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402
from tensorflow.python.framework import ops  # noqa: E402

NUM_CLASSES = 10
EVAL_BATCH_SIZE = 256
POOLS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}

Weights = list[list[np.ndarray]]  # of a block's layers, in the order in which they are built


class BlockBuilder:
    """Adds one block to a functional model: a, pool, b, plus a 1x1 convolution of the block's input.

    Attributes:
      layers: those that it added, in order.
    """

    def __init__(self, genes: dict[str, Any], activation: str, pool_stride: int, *, first: bool, frozen: bool):
        """Keeps what to build.

        Args:
          genes: name to value.
          activation: relu, elu or leaky_relu.
          pool_stride: pixels.
          first: whether this is a network's first block, which always has convolution b.
          frozen: whether the block is inherited: not trainable, in inference mode.
        """
        self.genes, self.activation, self.pool_stride = genes, activation, pool_stride
        self.first, self.frozen = first, frozen
        self.layers: list[layers.Layer] = []

    def __call__(self, inputs: Any) -> Any:
        genes = self.genes
        x = self._conv_unit("a", inputs)
        pooled = genes["include_pool"] and inputs.shape[1] > 1
        stride = self.pool_stride if pooled else 1
        if pooled:
            x = POOLS[genes["pool_type"]](2, stride, padding="same")(x)
        if self.first or genes["include_b"]:
            x = self._conv_unit("b", x)
        if genes["include_skip"]:
            skip = layers.Conv2D(x.shape[-1], 1, stride, padding="same", kernel_initializer="lecun_normal")
            x = layers.Add()([x, self._add(skip)(inputs)])
        return x

    def get_weights(self) -> Weights:
        """Returns the weights of the block's layers."""
        return [layer.get_weights() for layer in self.layers]

    def set_weights(self, weights: Weights) -> None:
        """Sets what `get_weights` of an equal block returned."""
        for layer, values in zip(self.layers, weights, strict=True):
            layer.set_weights(values)

    def _conv_unit(self, name: str, x: Any) -> Any:
        channels, kernel, norm = (self.genes[f"{name}_{gene}"] for gene in ("channels", "kernel", "batch_norm"))
        conv = layers.Conv2D(channels, kernel, padding="same", use_bias=not norm, kernel_initializer="lecun_normal")
        x = self._add(conv)(x)
        if norm:
            # None leaves the mode to fit and evaluate.
            training = False if self.frozen else None
            x = self._add(layers.BatchNormalization(momentum=0.9, epsilon=1e-5))(x, training=training)
        if self.activation == "leaky_relu":
            return layers.LeakyReLU(negative_slope=0.01)(x)
        return layers.Activation(self.activation)(x)

    def _add(self, layer: layers.Layer) -> layers.Layer:
        layer.trainable = not self.frozen
        self.layers.append(layer)
        return layer


class Clock(keras.callbacks.Callback):
    """Seconds of each training step and of each evaluated batch."""

    def __init__(self):
        super().__init__()
        self.train: list[float] = []
        self.evaluation: list[float] = []
        self._last = time.perf_counter()

    def on_train_begin(self, logs=None) -> None:
        self._last = time.perf_counter()

    def on_test_begin(self, logs=None) -> None:
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._tick(self.train)

    def on_test_batch_end(self, batch, logs=None) -> None:
        self._tick(self.evaluation)

    def first_step_excess(self) -> float:
        """Returns by how much first steps, which trace and compile, took longer than the median of the others."""
        return sum(
            max(times[0] - statistics.median(times[1:] or [0.0]), 0.0) for times in (self.train, self.evaluation)
        )

    def _tick(self, times: list[float]) -> None:
        now = time.perf_counter()
        times.append(now - self._last)
        self._last = now


def build(shape: tuple[int, ...], prefix: list[tuple[dict, Weights]], genes: dict, activation: str, pool_stride: int):
    """Returns a functional model, not compiled yet, and the builder of its new block.

    Args:
      shape: height, width, channels of the images.
      prefix: genes and weights of the inherited blocks.
      genes: of the new block.
      activation: of the whole network.
      pool_stride: pixels.
    """
    inputs = x = keras.Input(shape)
    for place, (inherited, weights) in enumerate(prefix):
        block = BlockBuilder(inherited, activation, pool_stride, first=place == 0, frozen=True)
        x = block(x)
        block.set_weights(weights)
    new = BlockBuilder(genes, activation, pool_stride, first=not prefix, frozen=False)
    x = layers.GlobalAveragePooling2D()(new(x))
    outputs = layers.Dense(NUM_CLASSES, kernel_initializer="lecun_normal", name="head")(x)
    return keras.Model(inputs, outputs), new


def evaluate(model: keras.Model, data: dict[str, np.ndarray], job: dict) -> dict[str, float]:
    """Trains a model; returns its validation accuracy and what it took, tracing and compilation counted apart.

    These are by how much the first training step and the first evaluated batch took longer than the median ones.
    """
    started = time.perf_counter()
    clock = Clock()
    model.compile(
        optimizer=keras.optimizers.Adam(job["learning_rate"], epsilon=1e-8),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data["train_images"],
        data["train_labels"],
        batch_size=job["batch_size"],
        epochs=job["epochs"],
        verbose=0,
        callbacks=[clock],
    )
    _, fitness = model.evaluate(
        data["validation_images"],
        data["validation_labels"],
        batch_size=EVAL_BATCH_SIZE,
        verbose=0,
        callbacks=[clock],
    )
    compile_seconds = clock.first_step_excess()
    return {
        "fitness": float(fitness),
        "train_seconds": time.perf_counter() - started - compile_seconds,
        "compile_seconds": compile_seconds,
    }


def forget_networks() -> None:
    """Frees what networks that are no longer in use hold.

    TensorFlow keeps a gradient function of each traced step for ever, and with it the graph and all weights
    (tensorflow/tensorflow#97697; 9 MB a network of a few thousand weights). They are dropped here.
    """
    keras.backend.clear_session()
    registry = ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
    gc.collect()


def search(job: dict, data: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns what each individual took, phase by phase; a phase's champion is inherited by the next."""
    shape = data["train_images"].shape[1:]
    prefix: list[tuple[dict, Weights]] = []
    activation, results = "", []
    for phase, individuals in enumerate(job["phases"]):
        named = job["champions"][phase] if job.get("champions") else None
        best, champion, champion_activation = -math.inf, None, activation
        for individual, genes in enumerate(individuals):
            started = time.perf_counter()
            keras.utils.set_random_seed(np.random.default_rng((job["seed"], phase, individual)).integers(2**31).item())
            own_activation = activation or genes["activation"]
            model, block = build(shape, prefix, genes, own_activation, job["pool_stride"])
            result = evaluate(model, data, job)
            if individual == named or (named is None and result["fitness"] > best):
                best, champion, champion_activation = result["fitness"], (genes, block.get_weights()), own_activation
            del model, block
            forget_networks()
            result["seconds"] = time.perf_counter() - started
            results.append({"phase": phase, "individual": individual, **result})
        assert champion is not None, f"champions names no individual of phase {phase}"
        prefix.append(champion)
        activation = champion_activation
    return results


def main() -> None:
    """Does the job and writes what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="file to read")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    job = json.loads(arguments.job.read_text())
    with np.load(job["images"]) as arrays:
        data = {name: arrays[name].astype("float32") / 255 if "images" in name else arrays[name] for name in arrays}
    individuals = search(job, data)
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    result = {
        "peer": "keras tensorflow",
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
        },
        "device": gpus[0].get("device_name", "gpu") if gpus else "cpu",
        "individuals": individuals,
        "total_seconds": time.perf_counter() - _STARTED,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if gpus:
        result["device_peak_bytes"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
