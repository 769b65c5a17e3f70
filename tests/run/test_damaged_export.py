"""A network on disk is read whole or not at all, and what only cannot be read is no damage."""

import errno
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vlga_jax
from tests.run.exporting import ABOUT, SPEC, fresh
from vlga_jax.checks import InputError
from vlga_jax.run.export import export, find


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    export(tmp_path / "best", SPEC, fresh(0), ABOUT)
    return tmp_path


def central_directory(content: bytes, offset: int, byte: int) -> bytes:
    """A zip archive with another byte at an offset within its first central directory entry."""
    place = content.index(b"PK\x01\x02") + offset
    return content[:place] + bytes([byte]) + content[place + 1 :]


def in_double_precision(content: bytes) -> bytes:
    file = io.BytesIO()
    with np.load(io.BytesIO(content)) as arrays:
        np.savez(file, **{name: np.float64(arrays[name]) for name in arrays.files})  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("weights.npz", lambda content: content[: len(content) // 2]),
        ("weights.npz", lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:]),
        ("weights.npz", lambda content: b""),
        ("weights.npz", lambda content: b"no archive"),
        ("weights.npz", lambda content: central_directory(content, 6, 99)),  # the version that is needed to extract
        ("weights.npz", lambda content: central_directory(content, 8, 1)),  # encrypted
        ("weights.npz", lambda content: central_directory(content, 10, 8)),  # compressed
        ("weights.npz", lambda content: content.replace(b"head/bias", b"head/bios")),
        ("weights.npz", lambda content: in_double_precision(content)),
        ("architecture.json", lambda content: content[: len(content) // 2]),
        ("architecture.json", lambda content: b"[]"),
        ("architecture.json", lambda content: b"{}"),
        ("architecture.json", lambda content: content.replace(b'"channels": 2', b'"channels": 4')),
        ("architecture.json", lambda content: content.replace(b'"channels": 2', b'"channels": "2"')),
        ("architecture.json", lambda content: content.replace(b"class_names", b"class_nomes")),
        ("architecture.json", lambda content: content.replace(b'"final": "' + b"0" * 64 + b'"', b'"final": []')),
        ("architecture.json", lambda content: content.replace(b'"cat",', b"")),
    ],
)
def test_load_of_a_damaged_network_is_refused_in_one_line(
    name: str, damage: Callable[[bytes], bytes], workdir: Path
) -> None:
    assert find(workdir / "best") is not None
    content = (workdir / "best" / name).read_bytes()
    assert damage(content) != content
    (workdir / "best" / name).write_bytes(damage(content))
    assert find(workdir / "best") is None
    with pytest.raises(InputError, match=rf"{workdir}': holds a network that cannot be read .* anew$") as raised:
        vlga_jax.load(workdir)
    assert "\n" not in str(raised.value)


def test_load_of_a_network_without_weights_is_refused(workdir: Path) -> None:
    (workdir / "best" / "weights.npz").unlink()
    assert find(workdir / "best") is None
    with pytest.raises(InputError, match=r"holds a network that cannot be read .*weights\.npz"):
        vlga_jax.load(workdir)


def test_a_network_that_the_system_does_not_let_be_read_is_not_taken_for_damaged(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    message = r"best': cannot be read \(Permission denied: .*architecture\.json\); make it readable or"
    with pytest.raises(InputError, match=message):
        find(workdir / "best")
    with pytest.raises(InputError, match=message):
        vlga_jax.load(workdir / "best")


def test_find_of_no_network_is_none(tmp_path: Path) -> None:
    assert find(tmp_path / "best") is None
    (tmp_path / "best").write_text("no directory")
    assert find(tmp_path / "best") is None
