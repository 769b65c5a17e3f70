"""Which images a measurement uses."""

from pathlib import Path

import pytest

from benchmarks import images
from experiments import default
from vlga_jax.checks import InputError


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10, as it seems, in the usual place; the user's cache is empty."""
    (tmp_path / "tfds" / "cifar10").mkdir(parents=True)
    monkeypatch.setattr(images, "_BESIDE_CHECKOUT", tmp_path / "tfds")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "tfds"


@pytest.mark.parametrize("can_read", [True, False])
def test_choose_images_takes_those_beside_the_checkout_if_they_can_be_read(
    can_read: bool, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_reads_tfds", lambda: can_read)
    config = default.get_config()
    config.data.num_train_examples = 20
    assert images.choose_images(config, "") == ("cifar10" if can_read else "random")
    assert config.data.name == ("cifar10" if can_read else "npz")
    assert Path(config.data.dir).is_relative_to(beside if can_read else beside.parent / "cache")


def test_choose_images_that_cannot_be_read_names_the_remedy(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_reads_tfds", lambda: False)
    with pytest.raises(InputError, match="needs tensorflow-datasets and Pillow; give decoded parts"):
        images.choose_images(default.get_config(), str(beside))
