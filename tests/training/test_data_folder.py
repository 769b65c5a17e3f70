"""A folder of image files, one folder a class."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import default
from vlga_jax.checks import InputError
from vlga_jax.training.data import DataConfig, folder_source, load_test_data, load_training_data
from vlga_jax.training.data.image_file import read_image


def config(directory: Path, **changes: Any) -> DataConfig:
    values = {**default.get_config().data.to_dict(), "name": "folder", "dir": str(directory)}
    values |= {"validation_fraction": 0.25, "cache_dir": str(directory.parent / "cache")}
    return DataConfig(**{**values, **changes})


def save(path: Path, red: int, size: tuple[int, int] = (6, 5), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 0, 0)).save(path, **options)


def fill(directory: Path, first: int, count: int) -> None:
    """Images whose red says which they are."""
    for index in range(count):
        save(directory / f"{index}.png", first + index)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """20 cats from red 0, ten dogs from red 100, one of them a folder deeper, and what is no image."""
    fill(tmp_path / "pets" / "cat", 0, 20)
    fill(tmp_path / "pets" / "dog", 100, 9)
    save(tmp_path / "pets" / "dog" / "puppies" / "a.PNG", 109)
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("good dogs")
    save(tmp_path / "pets" / "dog" / ".hidden.png", 200)
    save(tmp_path / "pets" / ".thumbnails" / "a.png", 201)
    return tmp_path / "pets"


def reds(images: np.ndarray) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_load_training_and_test_data_take_each_file_once_a_fifth_of_each_class_for_the_test(pets: Path) -> None:
    data = load_training_data(config(pets))
    test_images, test_labels = load_test_data(config(pets))
    assert data.class_names == ("cat", "dog")
    images = np.concatenate([data.train_images, data.validation_images, test_images])
    labels = np.concatenate([data.train_labels, data.validation_labels, test_labels])
    assert images.shape == (30, 5, 6, 3) and not images[..., 1:].any()
    assert sorted(reds(images)) == [*range(20), *range(100, 110)]
    assert [label for _, label in sorted(zip(reds(images), labels.tolist(), strict=True))] == [0] * 20 + [1] * 10
    assert np.bincount(test_labels).tolist() == [4, 2]
    assert len(data.train_labels) == 18 and len(data.validation_labels) == 6


def test_load_training_data_of_the_first_examples_has_both_classes_in_an_order_that_stays(pets: Path) -> None:
    data = load_training_data(config(pets, num_train_examples=8))
    assert {*data.train_labels.tolist()} == {0, 1}
    whole = load_training_data(config(pets))
    assert {*reds(data.train_images), *reds(data.validation_images)} < {
        *reds(whole.train_images),
        *reds(whole.validation_images),
    }
    again = load_training_data(config(pets, num_train_examples=8, cache_dir=str(pets.parent / "other")))
    assert again.fingerprint == data.fingerprint


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing"), ("train", "valid")])
def test_folders_of_splits_are_the_splits(tmp_path: Path, train: str, test: str) -> None:
    save(tmp_path / "set" / "TEST" / "unlabelled.png", 9) if test == "valid" else None
    for split, first in ((train, 0), (test, 50)):
        fill(tmp_path / "set" / split / "ant", first, 6)
        fill(tmp_path / "set" / split / "bee", first + 100, 4)
    data = load_training_data(config(tmp_path / "set"))
    assert data.class_names == ("ant", "bee")
    assert sorted(reds(data.train_images) + reds(data.validation_images)) == [*range(6), *range(100, 104)]
    images, labels = load_test_data(config(tmp_path / "set"))
    assert sorted(zip(reds(images), labels.tolist(), strict=True)) == [
        *((red, 0) for red in range(50, 56)),
        *((red, 1) for red in range(150, 154)),
    ]


def test_images_of_different_sizes_are_cut_to_a_square_and_resized(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10, 0] = wide[:, 10:20, 1] = wide[:, 20:, 2] = 255
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index, image in enumerate((wide, wide.transpose(1, 0, 2)) * 3):
            Image.fromarray(image).save(tmp_path / "set" / name / f"{index}.png")
    with pytest.raises(InputError, match=r"pixels.*give the size") as caught:
        load_training_data(config(tmp_path / "set"))
    assert caught.value.field == "config.data.image_size"
    images = np.concatenate([read_image(path, (4, 4))[None] for path in sorted((tmp_path / "set" / "a").iterdir())])
    assert images.shape == (6, 4, 4, 3)
    green, rest = images[..., 1], images[..., ::2]  # the middle third, its edges a little blurred
    assert green.min() > 200 and rest.max() < 50


def test_read_image_turns_upright_and_makes_transparent_white_and_grey_one_channel(tmp_path: Path) -> None:
    turned = np.zeros((8, 16, 3), np.uint8)
    turned[:, :8] = 255  # its left half is white: upright, after a quarter turn clockwise, its upper half
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.fromarray(turned).save(tmp_path / "a.jpg", exif=orientation, quality=95)
    upright = read_image(tmp_path / "a.jpg", None)
    assert upright.shape == (16, 8, 3)
    assert upright[:6].min() > 200 and upright[-6:].max() < 50
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png", None).min() == 255
    assert read_image(tmp_path / "a.jpg", (8, 4), num_channels=1).shape == (8, 4, 1)
    with pytest.raises(InputError, match="4 channels"):
        read_image(tmp_path / "b.png", None, num_channels=4)


def test_files_that_cannot_be_read_are_named_before_the_search_those_of_the_test_set_too(pets: Path) -> None:
    load_training_data(config(pets))
    for path in (pets / "cat").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    Image.fromarray(np.full((5, 6), 999, np.uint16)).save(pets / "dog" / "0.png")
    with pytest.raises(InputError, match=r": 21 of 30 images: .*cat.*cat.*; \.\.\.$") as caught:
        load_training_data(config(pets))
    assert caught.value.field == "config.data.dir"
    named = caught.value.remedy.split(": ", 1)[1].split("; ")
    cats = sorted(map(str, (pets / "cat").iterdir()))
    assert named[-1] == "..." and [name for name in cats if any(each.startswith(name) for each in named)] == cats[:10]
    with pytest.raises(InputError, match=r"more than 8 bits.*convert it to 8"):
        read_image(pets / "dog" / "0.png", None)


def test_decoded_images_are_kept_until_a_file_changes(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_training_data(config(pets)).fingerprint
    decoded: list[Path] = []

    def reading(path: Path, size: tuple[int, int] | None) -> np.ndarray:
        decoded.append(path)
        return read_image(path, size)

    monkeypatch.setattr(folder_source, "read_image", reading)
    assert load_training_data(config(pets)).fingerprint == before and not decoded
    for path in pets.rglob("*.png"):
        save(path, 77, size=(6, 5))
    assert load_training_data(config(pets)).fingerprint != before and len(decoded) == 30


def remove(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def keep(pets: Path, count: int, *, cats: int | None = None) -> None:
    """Leaves so many of each class, or another number of cats."""
    shutil.rmtree(pets / "dog" / "puppies")
    for name, number in (("cat", count if cats is None else cats), ("dog", count)):
        for path in sorted((pets / name).glob("[0-9]*.png"))[number:]:
            path.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pets: (pets / "cat").rename(pets / ".cat"), r"no folder but dog.*two or more classes"),
        (lambda pets: remove(pets / "cat"), r"class cat has no image.*\.jpg"),
        (lambda pets: save(pets / "fish" / "a.gif", 0, size=(7, 7)), r"(6x5 pixels and .* 7x7|7x7 pixels and .* 6x5);"),
        (lambda pets: [(pets / name).rename(pets.parent / name) for name in ("cat", "dog")], "has no folders"),
        (lambda pets: keep(pets, 1), r"^config\.data\.dir=.* has one image of each class; give three or more"),
        (lambda pets: keep(pets, 1, cats=0), "class cat has no image"),
        (
            lambda pets: keep(pets, 2),
            r"^config\.data\.dir=.*: 2 training examples are too few for 2 classes; give more",
        ),
        (lambda pets: [path.rename(pets.parent / path.name) for path in pets.iterdir()] and pets.rmdir(), "directory"),
    ],
)
def test_folder_that_cannot_be_used_is_refused_in_one_line(pets: Path, change: Any, words: str) -> None:
    change(pets)
    with pytest.raises(InputError, match=words) as caught:
        load_training_data(config(pets))
    assert "\n" not in str(caught.value)


def test_train_without_test_and_a_class_of_the_test_set_alone_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "set" / "train" / "ant", 0, 3)
    fill(tmp_path / "set" / "train" / "bee", 0, 3)
    with pytest.raises(InputError, match="train needs one of test, testing, val, valid, validation beside it"):
        load_training_data(config(tmp_path / "set"))
    fill(tmp_path / "set" / "test" / "cat", 0, 3)
    with pytest.raises(InputError, match="test has a class cat that train has not"):
        load_training_data(config(tmp_path / "set"))


def test_files_that_come_during_a_run_do_not_change_its_test_set(pets: Path) -> None:
    load_training_data(config(pets))
    before, _ = load_test_data(config(pets))
    fill(pets / "cat" / "new", 40, 30)
    np.testing.assert_array_equal(load_test_data(config(pets))[0], before)
    load_training_data(config(pets))
    assert len(load_test_data(config(pets))[0]) == 12


def test_images_of_another_size_are_not_those_of_the_cache_and_the_first_ones_are_tested(pets: Path) -> None:
    sizes = (0, 4, 3)
    shapes = [load_training_data(config(pets, image_size=size)).train_images.shape[1:] for size in sizes]
    assert shapes == [(5, 6, 3), (4, 4, 3), (3, 3, 3)]
    whole, _ = load_test_data(config(pets))
    np.testing.assert_array_equal(load_test_data(config(pets, num_test_examples=4))[0], whole[:4])


@pytest.mark.parametrize(("field", "most"), [("num_train_examples", 24), ("num_test_examples", 6)])
def test_more_examples_than_there_are_is_refused(pets: Path, field: str, most: int) -> None:
    load_training_data(config(pets, **{field: most}))
    with pytest.raises(InputError, match=f"has {most} examples"):
        load_training_data(config(pets, **{field: most + 1}))


def test_files_that_are_not_used_are_counted_in_warnings(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(pets, 50, 3)
    save(pets / ".hidden.png", 9)
    (pets / "list.txt").write_text("cats and dogs")
    data = load_training_data(config(pets))
    assert not {50, 51, 52} & {*reds(data.train_images), *reds(data.validation_images)}
    assert [record.getMessage() for record in caplog.records if "images" in record.getMessage()] == [
        f"images beside the folders of classes in {pets}, of no class and not used: 3",
        f"other files than images in {pets / 'dog'}: 1 (.txt)",
    ]
