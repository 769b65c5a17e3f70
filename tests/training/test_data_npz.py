import json

import numpy as np
import pytest

from vlga_jax.checks import InputError
from vlga_jax.training.data import DataConfig, load_test_data, load_training_data

RNG_SEED = 5


def config(directory, **changes) -> DataConfig:
    values = {
        "name": "npz",
        "dir": str(directory),
        "num_train_examples": 0,
        "num_test_examples": 0,
        "validation_fraction": 0.25,
        "split_seed": 0,
        "image_size": 0,
        "cache_dir": str(directory / "cache"),
    }
    return DataConfig(**{**values, **changes})


@pytest.fixture
def parts(tmp_path):
    """Two training parts of 12 and 8 images and one test part of 6, of three classes."""
    generator = np.random.default_rng(RNG_SEED)
    for name, count in (("train-00000", 12), ("train-00001", 8), ("test-00000", 6)):
        images = generator.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(count, dtype=np.int32) % 3)
    (tmp_path / "classes.json").write_text(json.dumps(["ant", "bee", "cat"]))
    return tmp_path


def part_images(directory, name):
    with np.load(directory / name) as part:
        return part["images"]


def test_load_training_data_npz_joins_parts_in_order(parts):
    data = load_training_data(config(parts))
    assert data.train_images.shape == (15, 6, 5, 3) and data.validation_images.shape == (5, 6, 5, 3)
    assert data.class_names == ("ant", "bee", "cat")
    stored = np.concatenate([part_images(parts, "train-00000.npz"), part_images(parts, "train-00001.npz")])
    place = {image.tobytes(): index for index, image in enumerate(stored)}
    order = [place[image.tobytes()] for image in data.train_images]
    held_out = [place[image.tobytes()] for image in data.validation_images]
    assert order == sorted(order) and sorted(order + held_out) == list(range(20))
    assert data.train_labels.tolist() == [index % 12 % 3 for index in order]


def test_load_training_data_npz_first_examples_leave_later_parts_unread(parts):
    (parts / "train-00001.npz").write_bytes(b"never read")
    data = load_training_data(config(parts, num_train_examples=9))
    assert len(data.train_labels) + len(data.validation_labels) == 9


def test_load_training_data_npz_of_one_class_raises_input_error(parts):
    """Images that were written class after class, of which a search takes the first."""
    np.savez(parts / "train-00000.npz", images=np.zeros((12, 6, 5, 3), np.uint8), labels=np.repeat([1, 2], 6))
    assert len(load_training_data(config(parts, num_train_examples=7)).train_labels) == 5
    with pytest.raises(InputError, match="all 6 examples are of class bee; .* shuffle") as caught:
        load_training_data(config(parts, num_train_examples=6))
    assert caught.value.field == "config.data.num_train_examples"
    (parts / "train-00001.npz").unlink()
    np.savez(parts / "train-00000.npz", images=np.zeros((12, 6, 5, 3), np.uint8), labels=np.repeat(2, 12))
    with pytest.raises(InputError, match="all 12 examples are of class cat; give") as caught:
        load_training_data(config(parts))
    assert caught.value.field == "config.data.dir"


def test_load_test_data_npz_returns_test_parts(parts):
    images, labels = load_test_data(config(parts, num_test_examples=4))
    np.testing.assert_array_equal(images, part_images(parts, "test-00000.npz")[:4])
    assert labels.tolist() == [0, 1, 2, 0]


def test_load_training_data_npz_resized_comes_from_the_cache_the_second_time(parts):
    first = load_training_data(config(parts, image_size=4))
    assert first.train_images.shape == (15, 4, 4, 3)
    assert len(list((parts / "cache").iterdir())) == 1
    assert load_training_data(config(parts, image_size=4)).fingerprint == first.fingerprint


def test_load_training_data_npz_resize_of_flat_colour_keeps_it(parts):
    flat = np.empty((12, 6, 5, 3), np.uint8)
    flat[...] = (10, 200, 30)
    np.savez(parts / "train-00000.npz", images=flat, labels=np.arange(12, dtype=np.int32) % 3)
    data = load_training_data(config(parts, image_size=9, num_train_examples=12))
    assert np.unique(data.train_images.reshape(-1, 3), axis=0).tolist() == [[10, 200, 30]]


def rewrite(parts, name="train-00001", **changes):
    images, labels = np.zeros((8, 6, 5, 3), np.uint8), np.zeros(8, np.int32)
    np.savez(parts / f"{name}.npz", **{"images": images, "labels": labels, **changes})


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_load_training_data_npz_takes_labels_of_any_integers(parts, dtype):
    expected = load_training_data(config(parts))
    for path in parts.glob("*.npz"):
        with np.load(path) as part:
            arrays = dict(part)
        np.savez(path, images=arrays["images"], labels=arrays["labels"].astype(dtype))
    found = load_training_data(config(parts))
    assert found.train_labels.dtype == np.int32
    assert found.fingerprint == expected.fingerprint


BREAKAGES = {
    "part missing": (lambda parts: (parts / "train-00000.npz").unlink(), "no train-00000.npz"),
    "no test part": (lambda parts: (parts / "test-00000.npz").unlink(), "no test-00000.npz"),
    "part cut": (lambda parts: (parts / "train-00001.npz").write_bytes(b"PK\x03\x04"), "cannot be read"),
    "test part cut": (lambda parts: (parts / "test-00000.npz").write_bytes(b"no zip"), "cannot be read"),
    "no class names": (lambda parts: (parts / "classes.json").unlink(), "classes.json"),
    "class names no list": (lambda parts: (parts / "classes.json").write_text('{"a": 1}'), "list of two or more"),
    "float images": (lambda parts: rewrite(parts, images=np.zeros((8, 6, 5, 3))), "uint8"),
    "flat images": (lambda parts: rewrite(parts, images=np.zeros((8, 30), np.uint8)), "height, width"),
    "other size": (lambda parts: rewrite(parts, images=np.zeros((8, 7, 5, 3), np.uint8)), "all parts must agree"),
    "fractional labels": (lambda parts: rewrite(parts, labels=np.zeros(8, np.float32)), "integers"),
    "too few labels": (lambda parts: rewrite(parts, labels=np.zeros(7, np.int32)), "one per image"),
    "label too large": (lambda parts: rewrite(parts, labels=np.full(8, 3, np.int32)), "0 to 2"),
    "label negative": (lambda parts: rewrite(parts, labels=np.full(8, -1, np.int32)), "0 to 2"),
    "test images of another size": (
        lambda parts: rewrite(parts, "test-00000", images=np.zeros((8, 6, 6, 3), np.uint8)),
        "test-00000.npz holds images of",
    ),
    "test images without colour": (
        lambda parts: rewrite(parts, "test-00000", images=np.zeros((8, 6, 5, 1), np.uint8)),
        "must agree",
    ),
    "float test images": (lambda parts: rewrite(parts, "test-00000", images=np.zeros((8, 6, 5, 3))), "uint8"),
    "test label too large": (lambda parts: rewrite(parts, "test-00000", labels=np.full(8, 3, np.int32)), "0 to 2"),
    "too few test labels": (lambda parts: rewrite(parts, "test-00000", labels=np.zeros(7, np.int32)), "one per image"),
    "pickled labels": (lambda parts: rewrite(parts, labels=np.array([{}] * 8)), "cannot be read"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_load_training_data_npz_broken_raises_input_error(parts, breakage):
    damage, words = BREAKAGES[breakage]
    damage(parts)
    with pytest.raises(InputError, match=words) as caught:
        load_training_data(config(parts))
    assert caught.value.field == "config.data.dir"


def test_load_training_data_npz_resized_allows_test_images_of_another_size(parts):
    rewrite(parts, "test-00000", images=np.zeros((8, 6, 6, 3), np.uint8))
    assert load_training_data(config(parts, image_size=4)).train_images.shape[1:] == (4, 4, 3)


def test_load_training_data_npz_without_directory_raises_input_error(tmp_path):
    with pytest.raises(InputError, match="needs the directory"):
        load_training_data(config(tmp_path, dir=""))
    with pytest.raises(InputError, match="README.md, Your images, .* prepare NAME"):
        load_training_data(config(tmp_path, dir=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(("field", "value"), [("num_train_examples", 21), ("num_test_examples", 7)])
def test_load_training_data_npz_too_many_raises_input_error(parts, field, value):
    with pytest.raises(InputError) as caught:
        load_training_data(config(parts, **{field: value}))
    assert caught.value.field == f"config.data.{field}"
