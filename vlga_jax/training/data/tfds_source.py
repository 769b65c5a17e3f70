"""Image classification sets of tensorflow-datasets, read without TensorFlow.

Records are parsed here and decoded by Pillow, always: tensorflow-datasets decodes every feature of an example, some
only with TensorFlow, and takes OpenCV where it is installed, so that pixels would depend on the machine.
"""

import contextlib
import dataclasses
import difflib
import io
import logging
import os
import shlex
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.training.data.cache import cached, file_identities
from vlga_jax.training.data.schema import PREPARE_COMMAND, DataConfig, Examples

_TEST_SPLITS = ("test", "validation")
_BATCH = 1000  # records read at a time
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name

# What tensorflow-datasets raises on names, versions, files and builders it cannot use.
TFDS_ERRORS = (AssertionError, AttributeError, ImportError, NotImplementedError, OSError, RuntimeError, ValueError)


def read_tfds(config: DataConfig, split: str, *, use_cache: bool = True) -> Examples:
    """Returns examples of a prepared set, decoded or from the cache.

    Args:
      config: which set, where it lies, how many examples, and the image size.
      split: "train" or "test"; a set without a test split is tested on its validation split.
      use_cache: whether decoded images are looked up and kept.

    Raises:
      InputError: the set is unknown, not prepared or no image classification set; its images differ in size and no size
        was given; there are fewer examples than wanted.
    """
    if split == "train":  # what is wrong with the test set should not come out after a whole search
        config.num_examples("test", _open(config, "test").num_examples)
    prepared = _open(config, split)
    count = config.num_examples(split, prepared.num_examples)
    key = {
        "name": prepared.builder.info.full_name,
        "split": prepared.split,
        "num_examples": count,
        "image_size": config.image_size,
        "files": prepared.files,
    }
    if not use_cache:
        return _decode(prepared, count, config)
    return cached(config.cache_dir, key, lambda: _decode(prepared, count, config))


def make_builder(name: str, directory: str) -> Any:
    """Returns the tensorflow-datasets builder of a set, which need not be prepared yet.

    Args:
      name: as in "cifar10" or "emnist/letters".
      directory: data_dir of tensorflow-datasets; empty = its default.

    Raises:
      InputError: tensorflow-datasets is not installed or knows no such set.
    """
    try:
        import PIL.Image  # noqa: F401  # needed to decode; asked for here, so that one message names both
        import tensorflow_datasets as tfds
    except ImportError as error:
        remedy = f"needs more packages: pip install tensorflow-datasets pillow importlib_resources ({error})"
        raise InputError("config.data.name", name, remedy) from error
    try:
        with _quiet():
            return tfds.builder(name, data_dir=os.path.expanduser(directory) or None)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        close = "".join(f"; did you mean {other}?" for other in difflib.get_close_matches(name, known, n=1))
        remedy = (
            f"no such data set{close}; use digits, npz, folder, or an image classification set of "
            f"https://www.tensorflow.org/datasets/catalog prepared with `{PREPARE_COMMAND} NAME --dir=PATH`"
        )
        raise InputError("config.data.name", name, remedy) from error
    except TFDS_ERRORS as error:
        raise InputError("config.data.name", name, f"cannot be used here ({brief(error)})") from error


def supervised_keys(builder: Any) -> tuple[str, str]:
    """Returns the names of the image and the label in an example.

    Args:
      builder: from `make_builder`.

    Raises:
      InputError: the set does not map uint8 images to classes.
    """
    import tensorflow_datasets as tfds

    keys, features = builder.info.supervised_keys, builder.info.features
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = features[keys[0]], features[keys[1]]
        right_kinds = isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)
        if right_kinds and image.np_dtype == np.uint8 and label.num_classes:
            return keys
    remedy = "is no image classification set: it does not say which 8-bit image goes with which class; use another set"
    raise InputError("config.data.name", builder.name, remedy)


def brief(error: BaseException) -> str:
    """Returns an error's type and the start of its message, on one line."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences tensorflow-datasets, which logs every file it opens and prints a banner where TensorFlow is missing."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@dataclasses.dataclass(frozen=True)
class _Prepared:
    builder: Any
    split: str  # as the set calls it
    files: list[tuple[str, int, int]]

    @property
    def num_examples(self) -> int:
        return self.builder.info.splits[self.split].num_examples


def _open(config: DataConfig, split: str) -> _Prepared:
    builder = make_builder(config.name, config.dir)
    again = f"`{PREPARE_COMMAND} {config.name} --dir={shlex.quote(config.dir) if config.dir else 'PATH'}`"
    if not builder.info.splits:
        remedy = f"is not prepared in {builder.data_dir}; prepare it with {again}"
        raise InputError("config.data.name", config.name, remedy)
    supervised_keys(builder)
    if builder.info.file_format is None or builder.info.file_format.value != "array_record":
        remedy = "holds this set in a format that needs TensorFlow; prepare it in another directory with "
        raise InputError("config.data.dir", config.dir, remedy + f"`{PREPARE_COMMAND} {config.name} --dir=PATH`")
    candidates = _TEST_SPLITS if split == "test" else (split,)
    found = [name for name in candidates if name in builder.info.splits]
    if not found:
        remedy = f"has no {' or '.join(candidates)} split, only {', '.join(builder.info.splits)}; use another set"
        raise InputError("config.data.name", config.name, remedy)
    try:
        files = file_identities(builder.info.splits[found[0]].filepaths)
    except OSError as error:
        remedy = f"is incomplete ({brief(error)}); remove {builder.data_dir} and run {again}"
        raise InputError("config.data.name", config.name, remedy) from error
    return _Prepared(builder, found[0], files)


def _decode(prepared: _Prepared, count: int, config: DataConfig) -> Examples:
    """Returns the first `count` examples; reads no record beyond them."""
    log = logging.getLogger(__name__)
    log.info("decoding %d images of %s, split %s", count, prepared.builder.info.full_name, prepared.split)
    label_key = supervised_keys(prepared.builder)[1]
    num_classes = prepared.builder.info.features[label_key].num_classes
    labels = np.empty(count, np.int32)
    images = np.empty((count, 0, 0, 0), np.uint8)  # until the first image tells the shape
    for index, (image, label) in enumerate(_pairs(prepared, count, config)):
        if index == 0:
            images = np.empty((count, *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            remedy = (
                f"images of {config.name} differ in size, {images.shape[1]}x{images.shape[2]} and "
                f"{image.shape[0]}x{image.shape[1]} pixels among them; give the size to bring them to, as in 64"
            )
            raise InputError("config.data.image_size", config.image_size, remedy)
        images[index], labels[index] = image, label
    if not 0 <= labels.min() <= labels.max() < num_classes:
        remedy = f"its {prepared.split} split has labels outside 0 to {num_classes - 1}; use another set"
        raise InputError("config.data.name", config.name, remedy)
    return Examples(images, labels, tuple(prepared.builder.info.features[label_key].names))


def _pairs(prepared: _Prepared, count: int, config: DataConfig) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the first `count` pairs of an image and its label, in stored order."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    image_key, label_key = supervised_keys(prepared.builder)
    mode = _MODES.get(prepared.builder.info.features[image_key].shape[-1], "RGB")
    raw_bytes = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        with _quiet():
            records = prepared.builder.as_data_source(split=prepared.split, deserialize_method=raw_bytes)
        for start in range(0, count, _BATCH):
            for record in records.__getitems__(list(range(start, min(start + _BATCH, count)))):
                feature = tf_example_pb2.Example.FromString(record).features.feature
                with Image.open(io.BytesIO(feature[image_key].bytes_list.value[0])) as image:
                    yield _pixels(image, mode, config.image_size), feature[label_key].int64_list.value[0]
    except (*TFDS_ERRORS, IndexError, SyntaxError) as error:
        remedy = f"cannot be read ({brief(error)}); remove {prepared.builder.data_dir} and prepare it again"
        raise InputError("config.data.name", config.name, remedy) from error


def _pixels(image: Any, mode: str, size: int) -> np.ndarray:
    """Returns uint8 [height, width, channels] of a Pillow image, resized to a square unless `size` is 0."""
    from PIL import Image

    if image.mode != mode:
        image = image.convert(mode)
    if size and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
