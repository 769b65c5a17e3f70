import io
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from vlga_jax.checks import InputError
from vlga_jax.training.data import DataConfig, load_test_data, load_training_data, prepare
from vlga_jax.training.data.__main__ import main

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PER_FILE = 10


def cifar_pixels(split):
    """Returns images and labels in the order of CIFAR-10's files: 5 training files and one for testing."""
    count = 5 * PER_FILE if split == "train" else PER_FILE
    images = np.random.default_rng(len(split)).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, (np.arange(count) * 7 % 10).astype(np.uint8)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A small archive in CIFAR-10's binary format: a label byte, then 1,024 red, green and blue bytes each."""
    path = tmp_path_factory.mktemp("archive") / "cifar-10-binary.tar.gz"
    train_images, train_labels = cifar_pixels("train")
    test_images, test_labels = cifar_pixels("test")
    files = {"batches.meta.txt": "\n".join(NAMES).encode() + b"\n\n", "test_batch.bin": (test_images, test_labels)}
    for number in range(5):
        chosen = slice(number * PER_FILE, (number + 1) * PER_FILE)
        files[f"data_batch_{number + 1}.bin"] = (train_images[chosen], train_labels[chosen])
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            if not isinstance(content, bytes):
                rows = zip(*content, strict=True)
                content = b"".join(bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in rows)
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def prepared(archive, tmp_path_factory):
    directory = tmp_path_factory.mktemp("prepared")
    prepare.prepare_tfds("cifar10", str(directory), str(archive))
    return directory


def config(directory, cache, name="cifar10") -> DataConfig:
    return DataConfig(name, str(directory), 0, 0, 0.2, 0, 0, str(cache))


def test_prepare_tfds_small_cifar10_archive_loads_with_the_same_pixels(prepared, tmp_path):
    data, (test_images, test_labels) = (
        load_training_data(config(prepared, tmp_path)),
        load_test_data(config(prepared, tmp_path)),
    )
    assert data.class_names == tuple(NAMES)
    images = np.concatenate([data.train_images, data.validation_images])
    labels = np.concatenate([data.train_labels, data.validation_labels])
    for split, found, found_labels in (("train", images, labels), ("test", test_images, test_labels)):
        expected = {image.tobytes(): label for image, label in zip(*cifar_pixels(split), strict=True)}
        assert len(found) == len(expected)
        assert [expected.pop(image.tobytes()) for image in found] == found_labels.tolist()


def test_prepare_tfds_leaves_nothing_but_the_set(prepared):
    assert [path.name for path in prepared.iterdir()] == ["cifar10"]
    assert [path.name for path in (prepared / "cifar10").iterdir()] == ["3.0.2"]


def test_prepare_tfds_needs_no_tensorflow(prepared):
    assert "tensorflow" not in sys.modules


def test_prepare_tfds_twice_keeps_the_first_and_says_so(prepared, archive, capsys):
    before = {path: path.stat().st_mtime_ns for path in (prepared / "cifar10" / "3.0.2").iterdir()}
    prepare.prepare_tfds("cifar10", str(prepared), str(archive))
    assert before == {path: path.stat().st_mtime_ns for path in (prepared / "cifar10" / "3.0.2").iterdir()}
    assert "was prepared before" in capsys.readouterr().err


def test_prepare_tfds_archive_in_a_directory_is_found_by_the_name_in_its_url(archive, tmp_path, capsys):
    prepare.prepare_tfds("cifar10", str(tmp_path), str(archive.parent))
    assert "SHA-256 differs" in capsys.readouterr().err
    assert len(load_test_data(config(tmp_path, tmp_path / "cache"))[1]) == PER_FILE


def test_write_npz_loads_as_the_same_data(prepared, tmp_path):
    target = prepare.write_npz("cifar10", str(prepared))
    assert target == prepared / "cifar10-npz"
    assert {path.name for path in target.iterdir()} == {"classes.json", "test-00000.npz", "train-00000.npz"}
    from_npz = load_training_data(config(target, tmp_path, "npz"))
    assert from_npz.fingerprint == load_training_data(config(prepared, tmp_path)).fingerprint
    assert from_npz.class_names == tuple(NAMES)
    target_test, set_test = load_test_data(config(target, tmp_path, "npz")), load_test_data(config(prepared, tmp_path))
    np.testing.assert_array_equal(target_test[0], set_test[0])


def test_write_npz_parts_are_no_larger_than_allowed(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_PART_BYTES", 4096 + 20_000)
    os.symlink(prepared / "cifar10", tmp_path / "cifar10")
    target = prepare.write_npz("cifar10", str(tmp_path))
    parts = sorted(target.glob("*.npz"))
    assert [path.name for path in parts if "train" in path.name][-1] == "train-00008.npz"  # 6 of 3,076 bytes each
    assert max(path.stat().st_size for path in parts) <= 4096 + 20_000
    wanted = load_training_data(config(prepared, tmp_path / "cache")).fingerprint
    assert load_training_data(config(target, tmp_path / "cache", "npz")).fingerprint == wanted


def test_write_npz_failing_leaves_no_parts(prepared, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    os.symlink(prepared / "cifar10", tmp_path / "cifar10")
    monkeypatch.setattr(prepare.np, "savez", full)
    with pytest.raises(InputError, match="No space left"):
        prepare.write_npz("cifar10", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10"]


def test_command_prepares_and_prints_the_flags(archive, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "vlga_jax.training.data", "prepare", "cifar10", "--npz"]
    done = subprocess.run([*command, f"--dir={tmp_path}", f"--archive={archive}"], capture_output=True, text=True)
    npz = tmp_path / "cifar10-npz"
    flags = f"--config.data.name=npz --config.data.dir={npz}"
    assert done.returncode == 0
    assert done.stdout == f"cifar10 lies in {npz}; use {flags}\n"
    assert done.stderr.startswith("note: ") and done.stderr.count("\n") == 1
    assert json.loads((npz / "classes.json").read_text()) == NAMES


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["prepare"], "NAME"),
        (["prepare", "cifar10"], "--dir"),
        (["prepare", "cifar10", "--dir={}", "--image_size=x"], "--image_size"),
        (["prepare", "cifra10", "--dir={}"], "did you mean cifar10"),
        (["prepare", "digits", "--dir={}"], "needs no preparing"),
        (["prepare", "dtd", "--dir={}"], "no image classification set"),
        (["prepare", "cifar10", "--dir={}/file/x"], "cannot be written"),
        (["prepare", "cifar10", "--dir={}", "--archive={}/none"], "no such file"),
        (["prepare", "cifar10", "--dir={}", "--archive={}/file"], "give the original"),
        (["prepare", "cifar10", "--dir={}", "--archive={}"], "has no cifar-10-binary.tar.gz; fetch it from https://"),
        (["prepare", "mnist", "--dir={}", "--archive={}/file"], "several files"),
        (["prepare", "coco", "--dir={}"], "needs TensorFlow"),
    ],
)
def test_command_bad_input_ends_with_two_and_one_line(tmp_path, capsys, arguments, words):
    (tmp_path / "file").write_text("no archive")
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main([argument.format(tmp_path) for argument in arguments]))
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert words in err


def test_command_no_network_ends_at_once_and_names_the_archive(tmp_path, capsys, monkeypatch):
    def refuse(address, timeout):
        assert address == ("www.cs.toronto.edu", 443) and timeout == 10
        raise OSError(111, "Connection refused")

    monkeypatch.setattr(prepare.socket, "create_connection", refuse)
    monkeypatch.setattr(prepare.urllib.request, "getproxies", dict)
    assert main(["prepare", "cifar10", f"--dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "www.cs.toronto.edu: Connection refused" in error
    assert "fetch https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz elsewhere and give --archive=FILE" in error


def test_command_help_explains_itself(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("NAME", "--dir", "--archive", "--npz", "cifar-10-binary.tar.gz"):
        assert word in text
