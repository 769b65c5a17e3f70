"""A network that another one replaces is kept, and is there again when it is asked for again."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlga_jax
from vlga_jax.run import pipeline
from vlga_jax.training.data import load_test_data


@pytest.fixture
def copied(finished: Any, tmp_path: Path) -> Path:
    """A copy of the finished run, to go on with."""
    return Path(shutil.copytree(finished.workdir, tmp_path / "copied"))


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_run_with_another_final_training_keeps_the_network_of_before_and_takes_it_back_untrained(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, accuracy = files_in(copied / "best"), json.loads((copied / "result.json").read_text())["test_accuracy"]
    pipeline.run(make_config({"final.epochs": 1, "tracking.progress": "plain"}), copied)
    told = f"the network that was in {copied / 'best'} is kept in {copied / 'best.old1'}, with its test accuracy of"
    assert f"{told} {accuracy:.4f}\n" in capsys.readouterr().out
    second = files_in(copied / "best")
    assert second != first == files_in(copied / "best.old1")
    images, labels = load_test_data(make_config().data)
    assert np.mean(vlga_jax.load(copied / "best.old1")(images) == labels) == accuracy

    def never(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("both are trained")

    monkeypatch.setattr(pipeline, "train_to_convergence", never)
    for changes, expected, other in (({}, first, second), ({"final.epochs": 1}, second, first)):
        result = pipeline.run(make_config(changes), copied)
        assert files_in(copied / "best") == expected
        assert result["final"]["num_epochs"] == (1 if changes else 2)
        (old,) = copied.glob("best.old*")
        assert files_in(old) == other


def test_run_killed_between_two_names_finds_its_network_under_the_other(
    copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = files_in(copied / "best")
    (copied / "best").rename(copied / "best.old1")
    monkeypatch.delattr(pipeline, "train_to_convergence")
    pipeline.run(make_config(), copied)
    assert files_in(copied / "best") == first and not list(copied.glob("best.old*"))


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
