import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vlga_jax.training.data import cache
from vlga_jax.training.data.schema import Examples

KEY = {"name": "set/1.0.0", "num_examples": 3}


def examples() -> Examples:
    images = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    return Examples(images, np.array([0, 1, 1], np.int32), ("cat", "dog"))


class Decoder:
    def __init__(self):
        self.calls = 0

    def __call__(self) -> Examples:
        self.calls += 1
        return examples()


def same(found: Examples) -> bool:
    return (
        np.array_equal(found.images, examples().images)
        and np.array_equal(found.labels, examples().labels)
        and (found.images.dtype, found.labels.dtype) == (np.uint8, np.int32)
        and found.class_names == ("cat", "dog")
    )


def only_entry(directory):
    (entry,) = directory.iterdir()
    return entry


def test_cached_second_call_reads_what_the_first_wrote(tmp_path):
    decode = Decoder()
    for _ in range(2):
        assert same(cache.cached(str(tmp_path / "new" / "cache"), KEY, decode))
    assert decode.calls == 1


def test_cached_other_key_decodes_again(tmp_path):
    decode = Decoder()
    cache.cached(str(tmp_path), KEY, decode)
    cache.cached(str(tmp_path), {**KEY, "num_examples": 2}, decode)
    assert decode.calls == 2


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "remove", "pickle"])
def test_cached_damaged_entry_is_decoded_again_and_mended(tmp_path, name, damage):
    decode = Decoder()
    cache.cached(str(tmp_path), KEY, decode)
    file = only_entry(tmp_path) / name
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    elif damage == "pickle":
        np.save(file.with_suffix(".npy"), np.array([{"not": "numbers"}], object), allow_pickle=True)
        file.with_suffix(".npy").replace(file)
    else:
        middle = len(content) // 2 if name != "entry.json" else content.index(b'"images"') + 15
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flip": flipped}[damage])
    assert same(cache.cached(str(tmp_path), KEY, decode))
    assert decode.calls == 2
    assert same(cache.cached(str(tmp_path), KEY, decode))
    assert decode.calls == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_cached_unwritable_directory_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    decode = Decoder()
    for _ in range(2):
        assert same(cache.cached(str(tmp_path / "file"), KEY, decode))
    assert decode.calls == 2
    assert "not cached" in caplog.text


def test_cached_failing_disk_leaves_nothing_behind(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", full)
    assert same(cache.cached(str(tmp_path), KEY, Decoder()))
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_cached_failing_decoder_propagates_and_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cache.cached(str(tmp_path), KEY, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    assert list(tmp_path.iterdir()) == []


def test_cached_killed_while_writing_leaves_no_entry(tmp_path):
    program = (
        f"import os, sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from vlga_jax.training.data import cache\n"
        "from test_data_cache import KEY, Decoder\n"
        "cache._checksum = lambda path: os.kill(os.getpid(), 9)\n"  # the arrays lie on disk, the entry does not
        f"cache.cached({str(tmp_path)!r}, KEY, Decoder())"
    )
    killed = subprocess.run([sys.executable, "-c", program])
    assert killed.returncode == -signal.SIGKILL
    left_over = only_entry(tmp_path)
    assert (left_over / "new" / "images.npy").stat().st_size > 0
    decode = Decoder()
    assert same(cache.cached(str(tmp_path), KEY, decode))
    assert decode.calls == 1
    # What the killed process left goes a day later, when another entry is written.
    long_ago = time.time() - 2 * cache._ABANDONED_SECONDS
    os.utime(left_over, (long_ago, long_ago))
    cache.cached(str(tmp_path), {"other": 1}, decode)
    assert not left_over.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_cached_no_directory_given_uses_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.cached("", KEY, Decoder())
    assert len(list((tmp_path / "vlga_jax" / "data").iterdir())) == 1


def test_file_identities_touched_file_differs(tmp_path):
    file = tmp_path / "shard"
    file.write_bytes(b"123")
    os.utime(file, ns=(0, 1))
    (first,) = cache.file_identities([file])
    os.utime(file, ns=(0, 2))
    assert first == (str(file.resolve()), 3, 1)
    assert cache.file_identities([file]) != [first]
