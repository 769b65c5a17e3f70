"""The best network as plain files: it comes back the same, equal networks are equal bytes, crashes lose nothing."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import vlga_jax
from tests.run.exporting import ABOUT, BLOCK, SPEC, files, fresh
from tests.trees import assert_same_bits
from vlga_jax.checks import InputError
from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.run.export import export, load

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (300, 5, 4, 2)).astype(np.uint8)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    export(directory / "best", SPEC, fresh(0), ABOUT)
    return directory


def test_load_of_an_export_has_the_same_spec_weights_and_probabilities(workdir: Path) -> None:
    predictor = load(workdir)
    assert predictor.spec == SPEC
    assert predictor.class_names == ("cat", "dog", "ship")
    assert predictor.about["final"] == "0" * 64
    assert_same_bits(predictor.variables, fresh(0))
    variables = fresh(0)
    apply = jax.jit(lambda x: ConvNet(SPEC).apply(variables, x, train=False))
    logits: Any = apply(np.float32(IMAGES) / np.float32(255))
    exponentials = np.exp(np.float64(logits) - np.max(logits, axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictor.probabilities(IMAGES), expected, rtol=1e-5, atol=1e-6)  # 300: two batches
    classes = predictor(IMAGES)
    assert classes.dtype == np.int32
    np.testing.assert_array_equal(classes, expected.argmax(axis=1))


def test_load_of_an_exported_network_without_blocks_is_its_dense_layer(tmp_path: Path) -> None:
    spec = NetworkSpec(SPEC.input_shape, SPEC.num_classes, "elu", "average", ())
    variables = initialise(jax.random.key(1), spec)
    export(tmp_path / "best", spec, variables, ABOUT)
    predictor = load(tmp_path)
    assert predictor.spec == spec
    assert_same_bits(predictor.variables, variables)
    head = variables["params"]["head"]
    logits = (np.float64(IMAGES) / 255).mean(axis=(1, 2)) @ np.float64(head["kernel"]) + head["bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictor.probabilities(IMAGES), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("channels", "means"), [(1, [76]), (3, [255, 0, 0])])  # 76: how bright red is
def test_read_gives_files_of_any_size_as_the_network_takes_them(
    tmp_path: Path, channels: int, means: list[int]
) -> None:
    spec = NetworkSpec((5, 4, channels), 3, "elu", "average", (BLOCK,))
    export(tmp_path / "best", spec, initialise(jax.random.key(0), spec), ABOUT)
    predictor = load(tmp_path)
    for name, size in (("a.png", (40, 30)), ("b.bmp", (3, 7))):
        Image.new("RGB", size, "red").save(tmp_path / name)
    images = predictor.read([tmp_path / "a.png", str(tmp_path / "b.bmp")])
    assert images.dtype == np.uint8 and images.shape == (2, 5, 4, channels)
    assert (images == np.array(means)).all()
    assert predictor(images).shape == (2,)
    assert predictor(predictor.read([])).shape == (0,)
    with pytest.raises(InputError, match=r"missing\.png.*no such file"):
        predictor.read([tmp_path / "missing.png"])
    with pytest.raises(InputError, match="must be a list"):
        predictor.read(str(tmp_path / "a.png"))


def test_load_through_the_package_by_the_name_of_the_directory(workdir: Path) -> None:
    np.testing.assert_array_equal(vlga_jax.load(str(workdir))(IMAGES[:1]), load(workdir)(IMAGES)[:1])
    np.testing.assert_array_equal(vlga_jax.load(workdir / "best")(IMAGES[:1]), load(workdir)(IMAGES)[:1])


def test_predict_of_no_images_is_empty(workdir: Path) -> None:
    predictor = load(workdir)
    assert predictor(IMAGES[:0]).shape == (0,)
    assert predictor.probabilities(IMAGES[:0]).shape == (0, 3)


def test_probabilities_of_an_image_do_not_depend_on_the_others(workdir: Path) -> None:
    predictor = load(workdir)
    np.testing.assert_array_equal(predictor.probabilities(IMAGES[7:8]), predictor.probabilities(IMAGES)[7:8])


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.astype(np.float32),
        IMAGES.astype(np.int64),
        IMAGES[0],
        IMAGES[..., :1],
        IMAGES[:, :4],
        np.zeros((), np.uint8),
    ],
    ids=lambda images: f"{images.dtype}{list(images.shape)}",
)
def test_predict_of_wrong_images_names_what_is_wanted_in_one_line(images: np.ndarray, workdir: Path) -> None:
    predictor = load(workdir)
    with pytest.raises(InputError) as error:
        predictor(images)
    message = str(error.value)
    assert "\n" not in message
    assert str(images.dtype) in message
    assert str(list(images.shape)) in message
    assert "uint8 [images, 5, 4, 2]" in message


def test_export_of_equal_networks_gives_equal_bytes(workdir: Path, tmp_path: Path) -> None:
    def turned(tree: Any) -> Any:
        """The same tree, its names inserted the other way around and its leaves on the device."""
        if isinstance(tree, dict):
            return {name: turned(tree[name]) for name in reversed(tree)}
        return jax.numpy.asarray(tree)

    export(tmp_path / "best", SPEC, turned(fresh(0)), dict(reversed(ABOUT.items())))
    assert files(tmp_path / "best") == files(workdir / "best")
    with zipfile.ZipFile(tmp_path / "best" / "weights.npz") as archive:  # no clock in it either
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_export_of_other_weights_gives_other_bytes(workdir: Path, tmp_path: Path) -> None:
    export(tmp_path / "best", SPEC, fresh(1), ABOUT)
    assert files(tmp_path / "best")["weights.npz"] != files(workdir / "best")["weights.npz"]


def test_export_leaves_plain_files_without_pickle(workdir: Path) -> None:
    assert set(files(workdir / "best")) == {"weights.npz", "architecture.json"}
    assert [path.name for path in workdir.iterdir()] == ["best"]
    json.loads((workdir / "best" / "architecture.json").read_text())
    with np.load(workdir / "best" / "weights.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float32)}
        assert "params/block_0/a/conv/kernel" in arrays.files


class Killed(BaseException):
    """What stops a process in the tests below."""


def export_killed_before_write(number: int, directory: Path) -> bool:
    """Exports seed 1's network; whether it was killed before its write of this number, from 0."""
    remaining = number

    def dying(call: Any) -> Any:
        def instead(*args: Any, **kwargs: Any) -> Any:
            nonlocal remaining
            remaining -= 1
            if remaining < 0:
                raise Killed
            return call(*args, **kwargs)

        return instead

    with pytest.MonkeyPatch.context() as patches:
        for owner, name in [
            (os, "replace"),
            (os, "fsync"),
            (os, "unlink"),
            (os, "rmdir"),
            (os, "mkdir"),
            (np, "savez"),
        ]:
            patches.setattr(owner, name, dying(getattr(owner, name)))
        patches.setattr(Path, "write_text", dying(Path.write_text))
        try:
            export(directory, SPEC, fresh(1), ABOUT)
        except Killed:
            return True
    return False


def test_export_killed_at_any_write_leaves_the_old_network_or_the_new(tmp_path: Path) -> None:
    export(tmp_path / "new" / "best", SPEC, fresh(1), ABOUT)
    found = []
    for number in range(100):
        workdir = tmp_path / str(number)
        export(workdir / "best", SPEC, fresh(0), ABOUT)
        killed = export_killed_before_write(number, workdir / "best")
        left = jax.tree.leaves(load(workdir).variables)
        seeds = [seed for seed in (0, 1) if all(map(np.array_equal, left, jax.tree.leaves(fresh(seed))))]
        assert len(seeds) == 1
        found += seeds
        assert export_killed_before_write(number, workdir / "best") is killed  # killed again at the same place
        load(workdir)
        export(workdir / "best", SPEC, fresh(1), ABOUT)
        assert files(workdir / "best") == files(tmp_path / "new" / "best")
        assert [path.name for path in workdir.iterdir()] == ["best"]
        if not killed:
            break
    assert found == sorted(found)  # the old one up to some write, the new one from then on
    assert found.count(0) >= 5


def test_load_without_an_export_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finish the run") as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_load_of_what_is_no_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workdir='.*nope': is no directory"):
        load(tmp_path / "nope")
