"""The images that the Optuna peer reads."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.optuna_job import JobError, load_images
from tests.benchmarks.optuna_jobs import FINAL, job


def arrays() -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for count, split in enumerate(("train", "validation", "test"), start=2):
        made[f"{split}_images"] = np.full((count, 8, 8, 3), count, np.uint8)
        made[f"{split}_labels"] = np.arange(count, dtype=np.int32)
    made["whitening_mean"], made["whitening_kernel"] = np.zeros(3, np.float32), np.eye(12, dtype=np.float32)
    return made


@pytest.mark.parametrize("whitening", [True, False])
def test_load_images_of_good_arrays_returns_those_that_the_job_needs(whitening: bool, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", **arrays())  # type: ignore[arg-type]
    loaded = load_images(job(images=str(tmp_path / "images.npz"), whitening=whitening))
    needed = {name: array for name, array in arrays().items() if whitening or not name.startswith("whitening")}
    assert loaded.keys() == needed.keys()
    assert all((loaded[name] == array).all() for name, array in needed.items())


@pytest.mark.parametrize(
    ("name", "array", "word"),
    [
        ("test_images", None, "test_images"),
        ("test_images", np.zeros((4, 8, 8, 3)), "test_images must be uint8"),
        ("test_images", np.zeros((4, 8, 8, 1), np.uint8), "test_images must be uint8"),
        ("test_images", np.zeros((3, 8, 8, 3), np.uint8), "test_images must be uint8"),
        ("train_images", np.zeros((2, 8, 9, 3), np.uint8), "square"),
        ("train_labels", np.array([0, 10]), "train_labels"),
        ("train_labels", np.array([0, -1]), "train_labels"),
        ("train_labels", np.zeros((2, 10), np.int32), "train_labels"),
        ("whitening_mean", None, "whitening_mean"),
        ("whitening_mean", np.zeros(4, np.float32), r"whitening_mean must be float32 \[3\]"),
        ("whitening_kernel", np.zeros((12, 12)), r"whitening_kernel must be float32 \[12, 12\]"),
    ],
)
def test_load_images_of_a_wrong_array_names_it(name: str, array: np.ndarray | None, word: str, tmp_path: Path) -> None:
    made = arrays()
    del made[name]
    if array is not None:
        made[name] = array
    np.savez(tmp_path / "images.npz", **made)  # type: ignore[arg-type]
    with pytest.raises(JobError, match=word):
        load_images(job(images=str(tmp_path / "images.npz")))


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04"])
def test_load_images_of_something_else_names_the_file(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobError, match=r"^images='.*images\.npz': cannot be read"):
        load_images(job(images=str(path)))


def test_load_images_of_colour_smaller_than_the_crop_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", **arrays())  # type: ignore[arg-type]
    with pytest.raises(JobError, match="final.crop_padding=8"):
        load_images(job(images=str(tmp_path / "images.npz"), final={**FINAL, "crop_padding": 8}))
