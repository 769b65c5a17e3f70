import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vlga_jax.checks import InputError
from vlga_jax.training.data import DataConfig, load_test_data, load_training_data, prepare, tfds_source

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "tfds"
needs_cifar10 = pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="CIFAR-10 does not lie in ../shared")


def config(directory, cache, **changes) -> DataConfig:
    values = {
        "name": "cifar10",
        "dir": str(directory),
        "num_train_examples": 0,
        "num_test_examples": 0,
        "validation_fraction": 0.2,
        "split_seed": 0,
        "image_size": 0,
        "cache_dir": str(cache),
    }
    return DataConfig(**{**values, **changes})


class Toy(tfds.core.GeneratorBasedBuilder):
    """Sets made here, without download; one kind per config name."""

    VERSION = tfds.core.Version("1.0.0")
    KINDS = (
        "plain",
        "gray",
        "mixed_sizes",
        "jpeg",
        "no_keys",
        "no_train",
        "only_validation",
        "only_train",
        "bad_label",
    )
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=kind) for kind in KINDS]

    def _info(self):
        kind = self.builder_config.name
        channels = 1 if kind == "gray" else 3
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "picture": tfds.features.Image(shape=(None, None, channels)),
                    "kind": tfds.features.ClassLabel(names=["round", "square"]),
                    # TensorFlow or much time would be needed to decode this one; it must not be touched.
                    "extra": tfds.features.Sequence({"box": tfds.features.BBoxFeature()}),
                }
            ),
            supervised_keys=None if kind == "no_keys" else ("picture", "kind"),
        )

    def _split_generators(self, dl_manager):
        kind = self.builder_config.name
        splits = {"no_train": ["test"], "only_validation": ["train", "validation"], "only_train": ["train"]}
        return {split: self._generate_examples(split) for split in splits.get(kind, ["train", "test"])}

    def _generate_examples(self, split):
        for index in range(10):
            label = -1 if self.builder_config.name == "bad_label" and split == "test" else index % 2
            yield index, {"picture": self._picture(split, index), "kind": label, "extra": []}

    def _picture(self, split, index):
        kind = self.builder_config.name
        pixels = np.full((6, 8, 1 if kind == "gray" else 3), index + (100 if split == "train" else 0), np.uint8)
        if kind == "mixed_sizes":
            return pixels[: 4 + index % 3]
        if kind == "jpeg":  # as a gray file, in a set of colour images: decoded to three channels
            file = io.BytesIO()
            Image.fromarray(pixels[..., 0]).save(file, "jpeg")
            file.seek(0)
            return file
        return pixels


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    directory = tmp_path_factory.mktemp("toys")
    for kind in Toy.KINDS:
        if kind != "no_keys":
            prepare.prepare_tfds(f"toy/{kind}", str(directory))
    return directory


def toy(toys, tmp_path, kind, **changes):
    return config(toys, tmp_path, name=f"toy/{kind}", **changes)


@needs_cifar10
def test_load_training_data_cifar10_agrees_with_tfds(tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    data = load_training_data(config(SHARED, tmp_path, num_train_examples=200))
    assert data.train_images.shape == (160, 32, 32, 3) and data.train_images.dtype == np.uint8
    assert data.class_names[:3] == ("airplane", "automobile", "bird") and len(data.class_names) == 10
    assert [record.message for record in caplog.records] == ["decoding 200 images of cifar10/3.0.2, split train"]
    assert capsys.readouterr() == ("", "")
    source = tfds.data_source("cifar10", data_dir=str(SHARED), split="train")
    expected = {source[index]["image"].tobytes(): source[index]["label"] for index in range(200)}
    for images, labels in (
        (data.train_images, data.train_labels),
        (data.validation_images, data.validation_labels),
    ):
        assert [expected.pop(image.tobytes()) for image in images] == labels.tolist()
    assert expected == {}


@needs_cifar10
def test_load_test_data_cifar10_agrees_with_tfds(tmp_path):
    images, labels = load_test_data(config(SHARED, tmp_path, num_test_examples=20))
    source = tfds.data_source("cifar10", data_dir=str(SHARED), split="test")
    for index in range(20):
        np.testing.assert_array_equal(images[index], source[index]["image"])
        assert labels[index] == source[index]["label"]


@needs_cifar10
def test_load_training_data_cifar10_again_is_not_decoded_again(tmp_path, monkeypatch):
    first = load_training_data(config(SHARED, tmp_path, num_train_examples=100))
    monkeypatch.setattr(tfds_source, "_pixels", None)  # decoding would fail
    assert load_training_data(config(SHARED, tmp_path, num_train_examples=100)).fingerprint == first.fingerprint
    with pytest.raises(TypeError):
        load_training_data(config(SHARED, tmp_path, num_train_examples=101))


@needs_cifar10
def test_load_training_data_cifar10_decodes_only_what_is_asked_for(tmp_path, monkeypatch):
    decoded, pixels = [], tfds_source._pixels

    def counted(*arguments):
        decoded.append(arguments)
        return pixels(*arguments)

    monkeypatch.setattr(tfds_source, "_pixels", counted)
    load_training_data(config(SHARED, tmp_path, num_train_examples=150))
    assert len(decoded) == 150


@needs_cifar10
def test_load_training_data_cifar10_more_than_there_are_raises_input_error(tmp_path):
    with pytest.raises(InputError, match="50000") as caught:
        load_training_data(config(SHARED, tmp_path, num_train_examples=50_001))
    assert caught.value.field == "config.data.num_train_examples"


def test_load_training_data_gray_set_keeps_one_channel(toys, tmp_path):
    data = load_training_data(toy(toys, tmp_path, "gray"))
    assert data.train_images.shape == (8, 6, 8, 1)
    everything = np.concatenate([data.train_images, data.validation_images])
    assert sorted(everything[:, 0, 0, 0]) == list(range(100, 110))


def test_load_training_data_gray_file_in_colour_set_gets_three_channels(toys, tmp_path):
    data = load_training_data(toy(toys, tmp_path, "jpeg"))
    assert data.train_images.shape == (8, 6, 8, 3)
    assert (data.train_images == data.train_images[..., :1]).all()


def test_load_training_data_mixed_sizes_need_an_image_size(toys, tmp_path):
    with pytest.raises(InputError, match="differ in size") as caught:
        load_training_data(toy(toys, tmp_path, "mixed_sizes"))
    assert caught.value.field == "config.data.image_size"
    data = load_training_data(toy(toys, tmp_path, "mixed_sizes", image_size=5))
    assert data.train_images.shape == (8, 5, 5, 3)
    everything = np.concatenate([data.train_images, data.validation_images])
    assert sorted({int(image.min()) for image in everything}) == list(range(100, 110))  # flat colours stay


def test_load_training_data_other_image_size_is_another_cache_entry(toys, tmp_path):
    shapes = [load_training_data(toy(toys, tmp_path, "plain", image_size=size)).train_images.shape for size in (0, 4)]
    assert shapes == [(8, 6, 8, 3), (8, 4, 4, 3)]


def test_load_training_data_source_files_changed_decodes_again(toys, tmp_path):
    wanted = toy(toys, tmp_path, "plain")
    load_training_data(wanted)
    for shard in (toys / "toy" / "plain" / "1.0.0").glob("*train*"):
        os.utime(shard)
    load_training_data(wanted)
    assert len(list(tmp_path.iterdir())) == 2


def test_load_test_data_without_test_split_takes_validation(toys, tmp_path):
    images, _ = load_test_data(toy(toys, tmp_path, "only_validation"))
    assert sorted(images[:, 0, 0, 0]) == list(range(10))


def test_load_test_data_label_out_of_range_raises_input_error(toys, tmp_path):
    with pytest.raises(InputError, match="labels outside 0 to 1"):
        load_test_data(toy(toys, tmp_path, "bad_label"))


@pytest.mark.parametrize(("kind", "words"), [("no_train", "no train split"), ("only_train", "no test or validation")])
def test_load_training_data_split_missing_raises_input_error_at_once(toys, tmp_path, kind, words):
    with pytest.raises(InputError, match=words) as caught:
        load_training_data(toy(toys, tmp_path, kind))
    assert caught.value.field == "config.data.name"


def test_load_training_data_shard_damaged_or_missing_raises_input_error(tmp_path):
    prepare.prepare_tfds("toy/plain", str(tmp_path / "sets"))
    wanted = config(tmp_path / "sets", tmp_path / "cache", name="toy/plain")
    (shard,) = (tmp_path / "sets" / "toy" / "plain" / "1.0.0").glob("*train*")
    whole = shard.read_bytes()
    records = whole.index(b"IHDR")
    for damaged in (b"", whole[:100], whole[:records] + bytes([whole[records] ^ 1]) + whole[records + 1 :]):
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            load_training_data(wanted)
    shard.unlink()
    with pytest.raises(InputError, match="incomplete"):
        load_training_data(wanted)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10", "`python -m vlga_jax.training.data prepare cifar10 --dir={}`"),
        ("emnist/letters", "`python -m vlga_jax.training.data prepare emnist/letters --dir={}`"),
        ("cifra10", "did you mean cifar10"),
        ("cifra10", "`python -m vlga_jax.training.data prepare NAME --dir=PATH`"),
        ("toy/no_such_kind", "cannot be used here"),
        ("cifar10:1.2.3", "only: 3.0.2"),
        ("no name at all", "cannot be used here"),
    ],
)
def test_load_training_data_missing_or_unknown_set_raises_one_line(tmp_path, capsys, name, words):
    with pytest.raises(InputError) as caught:
        load_training_data(config(tmp_path, tmp_path, name=name))
    assert caught.value.field == "config.data.name" and caught.value.value == name
    assert words.format(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_load_training_data_missing_set_in_default_directory_names_path(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match="prepare mnist --dir=PATH`"):
        load_training_data(config("", tmp_path, name="mnist"))


def test_load_training_data_stored_as_tfrecord_raises_input_error(toys, tmp_path):
    home = tmp_path / "toy" / "plain" / "1.0.0"
    home.mkdir(parents=True)
    for file in (toys / "toy" / "plain" / "1.0.0").iterdir():
        (home / file.name.replace("array_record", "tfrecord")).write_bytes(
            file.read_bytes().replace(b"array_record", b"tfrecord")
        )
    with pytest.raises(InputError, match="needs TensorFlow") as caught:
        load_training_data(config(tmp_path, tmp_path, name="toy/plain"))
    assert caught.value.field == "config.data.dir"


def test_supervised_keys_set_without_them_raises_input_error(tmp_path):
    with pytest.raises(InputError, match="no image classification set"):
        prepare.prepare_tfds("toy/no_keys", str(tmp_path))
