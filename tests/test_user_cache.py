import os
from pathlib import Path

import pytest

from vlga_jax.user_cache import trim, user_cache


def test_user_cache_follows_xdg_and_else_lies_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for value, expected in (("/elsewhere", "/elsewhere/vlga_jax"), ("", "/home/someone/.cache/vlga_jax")):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert user_cache() == Path(expected)


def test_trim_removes_what_was_used_longest_ago(tmp_path: Path) -> None:
    for name, used, size in (("old", 100, 30), ("new", 300, 30), ("middle", 200, 30)):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (used, 50))
    (tmp_path / "below").mkdir()

    trim(tmp_path, 90)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["below", "middle", "new", "old"]
    trim(tmp_path, 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["below", "middle", "new"]
    trim(tmp_path, 59)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["below", "new"]


def test_trim_counts_writing_as_use(tmp_path: Path) -> None:
    for name, read, written in (("written", 100, 300), ("read", 200, 100)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (read, written))
    trim(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["written"]


def test_trim_of_nothing_does_nothing(tmp_path: Path) -> None:
    trim(tmp_path / "missing", 0)
    assert not (tmp_path / "missing").exists()


def test_trim_passes_over_what_vanishes_or_may_not_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, used in (("held", 100), ("old", 200), ("new", 300)):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (used, used))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    unlink = Path.unlink

    def refused(path: Path) -> None:
        if path.name == "held":
            raise PermissionError
        unlink(path)

    monkeypatch.setattr(Path, "unlink", refused)
    trim(tmp_path, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "held", "new"]
