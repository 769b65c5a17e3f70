"""The best network as a directory of plain files, and back: `weights.npz` and `architecture.json`, never pickle.

And, on request, as an ONNX model.
"""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlga_jax.checks import InputError, output_file
from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import NetworkSpec, from_json
from vlga_jax.network.transfer import Variables
from vlga_jax.run.history import write_atomically
from vlga_jax.run.onnx_model import onnx_model
from vlga_jax.shapes import Float, Int
from vlga_jax.training.data.image_file import read_image
from vlga_jax.training.inference import whole_batches
from vlga_jax.training.step import scale_images

_ARCHITECTURE, _WEIGHTS = "architecture.json", "weights.npz"


def export(
    directory: Path, spec: NetworkSpec, variables: Variables, about: Mapping[str, Any], *, keep: Path | None = None
) -> None:
    """Writes a network so that a crash leaves the old directory or the new one; equal networks give equal bytes.

    Args:
      directory: replaced whole.
      spec: the network.
      variables: its weights.
      about: what else to tell in `architecture.json`, such as `class_names`.
      keep: what the old directory becomes; None deletes it.
    """
    part, old = directory.with_name(f".{directory.name}.part"), _place_of_old(directory)
    put_back(directory)
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    arrays = {name: np.asarray(leaf) for name, leaf in _by_name(variables).items()}
    np.savez(part / _WEIGHTS, **arrays)  # type: ignore[arg-type]
    text = json.dumps({**about, "network": spec.to_json()}, indent=2, sort_keys=True)
    (part / _ARCHITECTURE).write_text(text + "\n")
    for path in part.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    if os.path.lexists(directory):
        os.replace(directory, keep or old)
    os.replace(part, directory)
    shutil.rmtree(old, ignore_errors=True)


def put_back(directory: Path) -> None:
    """Puts the old directory back in its place, where an export was killed between its two renames."""
    old = _place_of_old(directory)
    if old.exists() and not os.path.lexists(directory):
        os.replace(old, directory)


def _by_name(variables: Any) -> dict[str, Any]:
    """The leaves of a tree by their names in the archive, as params/head/kernel, in the order of the tree."""
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {"/".join(step.key for step in path): leaf for path, leaf in leaves}


def _place_of_old(directory: Path) -> Path:
    """Where an export keeps the directory it replaces; all there is between its two renames."""
    return directory.with_name(f".{directory.name}.old")


def kept_beside(directory: Path) -> list[Path]:
    """Returns where networks lie that were once in a directory, the last that was kept last: best.old1, best.old2."""
    return [path for _, path in _numbered_beside(directory)]


def place_to_keep(directory: Path) -> Path:
    """Returns a name for a network that another is about to replace, after all of `kept_beside`."""
    last = max((number for number, _ in _numbered_beside(directory)), default=0)
    return directory.with_name(f"{directory.name}.old{last + 1}")


def _numbered_beside(directory: Path) -> list[tuple[int, Path]]:
    names = re.compile(re.escape(directory.name) + r"\.old(\d+)")
    return sorted((int(match[1]), path) for path in directory.parent.iterdir() if (match := names.fullmatch(path.name)))


class Predictor:
    """A trained network as a function of uint8 images; `predict(images)` returns class indices.

    Attributes:
      spec: its architecture.
      class_names: what the indices mean.
      about: all of `architecture.json`.
    """

    def __init__(self, spec: NetworkSpec, variables: Variables, about: Mapping[str, Any]):
        self.spec, self.variables, self.about = spec, variables, about
        self.class_names: tuple[str, ...] = tuple(about["class_names"])
        self._apply = jax.jit(
            lambda variables, images: jax.nn.softmax(
                ConvNet(spec).apply(variables, scale_images(images), train=False)  # type: ignore[arg-type]
            )
        )

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.spec.input_shape))
        return f"<vlga_jax Predictor of {len(self.class_names)} classes from uint8 images [{shape}]>"

    def read(self, paths: Iterable[str | Path]) -> np.ndarray:
        """Returns the images of files as the network takes them, uint8 `[files, height, width, channels]`.

        Args:
          paths: of image files, which are read as those of `--config.data.name=folder` are: see `read_image`.

        Raises:
          InputError: a file cannot be read, or no list of files is given.
        """
        if isinstance(paths, str | Path):
            raise InputError("paths", str(paths), "must be a list of files, as in [path]")
        height, width, channels = self.spec.input_shape
        images = [read_image(path, (height, width), channels) for path in paths]
        return np.array(images, np.uint8).reshape(len(images), height, width, channels)

    def __call__(self, images: np.ndarray) -> Int[np.ndarray, " images"]:
        """Returns the most probable class of each image, int32 `[images]`; see `probabilities`."""
        return self.probabilities(images).argmax(axis=-1).astype(np.int32)

    def probabilities(self, images: np.ndarray) -> Float[np.ndarray, "images classes"]:
        """Returns class probabilities, float32 `[images, classes]`.

        Args:
          images: uint8 `[images, height, width, channels]`; checked here, not by its annotation, for a clear message.

        Raises:
          InputError: the images are not uint8, or not of the shape the network was trained on.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.spec.input_shape:
            wanted = f"must be uint8 [images, {', '.join(map(str, self.spec.input_shape))}]"
            raise InputError("images", f"{images.dtype} {list(images.shape)}", wanted)
        variables = jax.device_put(self.variables)  # once, not with every batch
        outputs = np.empty((len(images), self.spec.num_classes), np.float32)
        for start, batch in whole_batches(images):
            outputs[start : start + len(batch)] = np.asarray(self._apply(variables, batch))[: len(images) - start]
        return outputs

    def to_onnx(self, path: str | Path) -> None:
        """Writes the network as an ONNX model, which runs without JAX: see `vlga_jax.run.onnx_model`.

        Args:
          path: of the file, replaced whole.

        Raises:
          InputError: the package `onnx` is missing, or the path is a directory, lies in none or cannot be written.
        """
        file = output_file("path", path)
        write_atomically(file, onnx_model(self.spec, self.variables, self.class_names))


def load(workdir: str | Path) -> Predictor:
    """Returns the trained network of a run as a function of uint8 images.

    Args:
      workdir: of a finished run; it holds `best/`. Or that directory, or a copy of it.

    Raises:
      InputError: there is no trained network, or it cannot be read.
    """
    with _readable(workdir):
        if not Path(workdir).is_dir():
            raise InputError("workdir", str(workdir), "is no directory; give that of a finished run")
        directory = Path(workdir) / "best"
        if (Path(workdir) / _ARCHITECTURE).is_file():
            directory = Path(workdir)
        if not directory.exists():  # between two renames
            olds = (_place_of_old(directory), *reversed(kept_beside(directory)))
            directory = next((path for path in olds if path.exists()), directory)
        if not (directory / _ARCHITECTURE).is_file():
            raise InputError("workdir", str(workdir), "holds no best/; finish the run first")
        try:
            return _read(directory)
        except _DamagedError as error:
            remedy = f"holds a network that cannot be read ({error}); its run, started again, makes it anew"
            raise InputError("workdir", str(workdir), remedy) from error


def find(directory: Path) -> Predictor | None:
    """Returns the network that was exported to a directory; None where there is none, or no whole one.

    Raises:
      InputError: the system lets it not be read, which says nothing of the network.
    """
    with _readable(directory):
        try:
            return _read(directory)
        except _DamagedError:
            return None


@contextlib.contextmanager
def _readable(workdir: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{error.strerror}: {error.filename or workdir}"
        remedy = f"cannot be read ({what}); make it readable or move it away, then repeat the command"
        raise InputError("workdir", str(workdir), remedy) from error


class _DamagedError(Exception):
    """What lies in a directory is no network, or not the one that was written."""


def _read(directory: Path) -> Predictor:
    """What `export` wrote. `OSError` where the system does not let it be read."""
    try:
        text, archive = (directory / _ARCHITECTURE).read_bytes(), (directory / _WEIGHTS).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise _DamagedError(str(error)) from error
    jax.devices()  # what hinders JAX from starting is no damage
    try:
        return _parsed(text, archive)
    except Exception as error:  # the bytes are all here: whatever JSON, zip or NumPy say now, they say of them
        raise _DamagedError(f"{type(error).__name__}: {error}") from error


def _parsed(text: bytes, archive: bytes) -> Predictor:
    about = json.loads(text)
    spec = from_json(about["network"])
    if len(about["class_names"]) != spec.num_classes:
        raise ValueError(f"{len(about['class_names'])} class_names for {spec.num_classes} classes")
    if not isinstance(about.get("final", ""), str):
        raise TypeError(f"final is {about['final']!r}")
    with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:  # whose checksums are looked at
        found = {name: arrays[name] for name in arrays.files}
    shapes = variable_shapes(spec)
    wanted = _by_name(shapes)
    if _described(found) != _described(wanted):
        raise ValueError("the weights are not those of the architecture")
    return Predictor(spec, jax.tree.unflatten(jax.tree.structure(shapes), [found[name] for name in wanted]), about)


def _described(arrays: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}
