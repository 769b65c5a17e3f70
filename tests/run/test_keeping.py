"""A network that another one replaces is kept, and is there again when it is asked for again."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import numpy as np
import pytest

import vlga_jax
from vlga_jax.checks import InputError
from vlga_jax.run import pipeline
from vlga_jax.training.data import load_test_data


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_run_with_another_final_training_keeps_the_network_of_before_and_takes_it_back_untrained(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, accuracy = files_in(copied / "best"), json.loads((copied / "result.json").read_text())["test_accuracy"]
    pipeline.run(make_config({"final.epochs": 1, "tracking.progress": "plain"}), copied)
    told = f"the network that was in {copied / 'best'} is kept in best.old1, with its test accuracy of {accuracy:.4f}\n"
    printed = capsys.readouterr().out
    assert told in printed and "made wider" not in printed
    second = files_in(copied / "best")
    assert second != first == files_in(copied / "best.old1")
    images, labels = load_test_data(make_config().data)
    assert np.mean(vlga_jax.load(copied / "best.old1")(images) == labels) == accuracy

    def never(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("both are trained")

    monkeypatch.setattr(pipeline, "train_to_convergence", never)
    for changes, expected, other in (({}, first, second), ({"final.epochs": 1}, second, first)):
        result = pipeline.run(make_config({**changes, "tracking.progress": "plain"}), copied)
        assert f"; it is in {copied / 'best'} again\n" in capsys.readouterr().out
        assert files_in(copied / "best") == expected
        assert result["final"]["num_epochs"] == (1 if changes else 2)
        (old,) = copied.glob("best.old*")
        assert files_in(old) == other


def test_run_killed_between_two_renames_has_a_network_to_load_and_goes_on(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, replace = files_in(copied / "best"), os.replace

    def killed(source: Path, target: Path) -> None:
        if target == copied / "best":
            raise KeyboardInterrupt
        replace(source, target)

    for again, changes in enumerate(({"final.epochs": 1}, {})):  # to a new network, and back to the first
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", killed)
            pipeline.run(make_config(changes), copied)
        assert not (copied / "best").exists() and vlga_jax.load(copied).about["final"]
        assert files_in(copied / "best.old1") == first
        pipeline.run(make_config(changes), copied)
        assert (files_in(copied / "best") == first) == bool(again)
        assert [path.name for path in copied.glob("best.old*")] == [f"best.old{again + 1}"]
        assert not (copied / "final").exists()


def test_run_whose_network_was_damaged_makes_it_anew_and_keeps_what_was_there(
    copied: Path, make_config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first = files_in(copied / "best")
    (copied / "best" / "weights.npz").write_bytes(first["weights.npz"][:1000])
    pipeline.run(make_config({"tracking.progress": "plain"}), copied)
    assert f"what was in {copied / 'best'}, no whole network, is kept in best.old1\n" in capsys.readouterr().out
    assert files_in(copied / "best") == first
    assert [path.name for path in copied.glob("best.old*")] == ["best.old1"]
    assert files_in(copied / "best.old1") == {**first, "weights.npz": first["weights.npz"][:1000]}


def test_run_whose_network_is_of_another_architecture_makes_it_anew(copied: Path, make_config: Any) -> None:
    first = files_in(copied / "best")
    changed = first["architecture.json"].replace(b'"activation": "relu"', b'"activation": "selu"')
    assert changed != first["architecture.json"]
    (copied / "best" / "architecture.json").write_bytes(changed)
    pipeline.run(make_config(), copied)
    assert files_in(copied / "best") == first


def test_run_whose_network_may_not_be_read_says_so_and_leaves_it(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = files_in(copied / "best")
    with monkeypatch.context() as patch, pytest.raises(InputError, match="cannot be read .*Permission denied"):
        patch.setattr(Path, "read_bytes", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
        pipeline.run(make_config(), copied)
    assert files_in(copied / "best") == first and not list(copied.glob("best.old*"))
    pipeline.run(make_config(), copied)
    assert files_in(copied / "best") == first


def test_run_whose_answers_are_no_numbers_exports_nothing_and_names_the_learning_rate(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = files_in(copied / "best")
    train = pipeline.train_to_convergence

    def overflowing(*arguments: Any, **named: Any) -> Any:
        converged = train(*arguments, **named)
        params = converged.variables["params"]
        large = {**params, "head": jax.tree.map(lambda leaf: np.full_like(leaf, 3e38), params["head"])}
        return converged._replace(variables={**converged.variables, "params": large})

    monkeypatch.setattr(pipeline, "train_to_convergence", overflowing)
    config = make_config({"final.epochs": 1, "final.use_all_data": True, "final.learning_rate": 0.25})
    with pytest.raises(InputError, match=r"config\.final\.learning_rate=0\.25: .* are not finite; give a smaller one$"):
        pipeline.run(config, copied)
    assert files_in(copied / "best") == first and not list(copied.glob("best.old*"))
    monkeypatch.undo()
    pipeline.run(config, copied)
    assert vlga_jax.load(copied).about["final"] != json.loads(first["architecture.json"])["final"]


def test_run_of_other_settings_after_a_kill_between_two_renames_keeps_the_network_of_before(
    copied: Path, make_config: Any
) -> None:
    first = files_in(copied / "best")
    os.replace(copied / "best", copied / ".best.old")
    pipeline.run(make_config({"final.epochs": 1}), copied)
    assert files_in(copied / "best.old1") == first != files_in(copied / "best")
    assert not (copied / ".best.old").exists()


def test_run_whose_network_is_on_a_disk_that_is_not_there_keeps_the_link(copied: Path, make_config: Any) -> None:
    first = files_in(copied / "best")
    shutil.rmtree(copied / "best")
    (copied / "best").symlink_to("not-there")
    pipeline.run(make_config(), copied)
    assert files_in(copied / "best") == first and os.readlink(copied / "best.old1") == "not-there"


def test_run_passes_over_a_kept_network_that_may_not_be_read(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, read = files_in(copied / "best"), Path.read_bytes
    shutil.copytree(copied / "best", copied / "best.old1")
    os.replace(copied / "best", copied / "best.old2")

    def refused(path: Path) -> bytes:
        if path.parent.name == "best.old1":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        patch.setattr(pipeline, "train_to_convergence", Mock(side_effect=AssertionError("it is there")))
        pipeline.run(make_config(), copied)
    assert files_in(copied / "best") == first == files_in(copied / "best.old1")
    assert not (copied / "best.old2").exists()


def test_run_leaves_alone_what_only_looks_like_a_network_that_was_kept(copied: Path, make_config: Any) -> None:
    mine = copied / "best.old-mine"
    shutil.copytree(copied / "best", mine)
    (copied / "best" / "architecture.json").write_text("[]")
    pipeline.run(make_config(), copied)
    assert (copied / "best.old1" / "architecture.json").read_text() == "[]"
    assert files_in(mine) == files_in(copied / "best")


def test_switching_back_leaves_an_unfinished_training_of_other_settings(copied: Path, make_config: Any) -> None:
    other = copied / "final" / "0123456789abcdef"
    other.mkdir(parents=True)
    pipeline.run(make_config(), copied)
    assert other.is_dir()


def test_run_whose_network_is_no_better_than_one_answer_says_so(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = load_test_data(make_config().data)
    place = np.arange(len(labels))
    blind = np.where(place % 10 < 4, 0, 1 + place % 9)  # four tenths are of one class, and nobody can know which
    monkeypatch.setattr(pipeline, "load_test_data", lambda _: (images, blind))
    shutil.rmtree(copied / "best")
    pipeline.run(make_config({"tracking.progress": "plain"}), copied)
    assert (
        f"is no better than {np.mean(blind == 0):.4f}, which one answer for all images gets" in capsys.readouterr().out
    )
