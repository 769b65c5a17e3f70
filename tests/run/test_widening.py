"""A run whose winner is widened for its final training: what is trained, exported, told and tested is the wider one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import vlga_jax
from tests.run.finishing import request
from vlga_jax.checks import InputError
from vlga_jax.network.spec import count_flops, count_parameters, from_json
from vlga_jax.network.widening import widened
from vlga_jax.run import pipeline
from vlga_jax.training.data import load_test_data

WIDE = {"final.init": "scratch", "final.widen_to_flops": 900_000}


def result_in(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "result.json").read_text())


def test_run_with_a_wider_winner_trains_exports_and_tells_of_the_wider_one(
    finished: Any, make_config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path(shutil.copytree(finished.workdir, tmp_path / "run"))
    found = from_json(result_in(directory)["architecture"]["network"])
    config = make_config({**WIDE, "tracking.progress": "plain"})
    pipeline.run(config, directory)
    result = result_in(directory)
    wide = widened(found, 900_000)
    assert count_flops(found) < count_flops(wide) <= 900_000
    told = f"made wider, from {count_flops(found) / 1e6:.1f} to {count_flops(wide) / 1e6:.1f} MFLOP an image"
    assert told in capsys.readouterr().out
    assert from_json(result["architecture"]["network"]) == wide
    assert (result["num_flops"], result["num_parameters"]) == (count_flops(wide), count_parameters(wide))
    predict = vlga_jax.load(directory)
    assert predict.spec == wide
    images, labels = load_test_data(config.data)
    assert (predict(images) == labels).mean() == result["test_accuracy"]
    before = result_in(finished.workdir)
    for name in ("chromosome", "digest", "fitness", "found_in"):  # the search is the same
        assert result["architecture"][name] == before["architecture"][name]


def test_final_training_of_a_winner_that_is_wide_enough_is_the_same_one() -> None:
    plain, enough, wide = (request(init="scratch", widen_to_flops=flops) for flops in (0, 1, 900_000))
    assert enough.digest == plain.digest == plain.trajectory
    assert wide.digest != plain.digest
    assert wide.network != wide.request.network == enough.network


def test_wider_winner_from_searched_weights_is_refused(make_config: Any) -> None:
    with pytest.raises(InputError, match="no searched weights; give config.final.init=scratch") as caught:
        make_config({"final.widen_to_flops": 900_000})
    assert caught.value.field == "config.final.widen_to_flops"
