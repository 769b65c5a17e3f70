from pathlib import Path

import pytest

from vlga_jax.training.user_cache import user_cache


def test_user_cache_follows_xdg_and_else_lies_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for value, expected in (("/elsewhere", "/elsewhere/vlga_jax"), ("", "/home/someone/.cache/vlga_jax")):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert user_cache() == Path(expected)
