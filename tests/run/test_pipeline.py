"""Whole runs on real digits: what they leave, and that nothing but the configuration decides it."""

import csv
import dataclasses
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vlga_jax
from vlga_jax.checks import InputError
from vlga_jax.run import laboratory, pipeline, workdir
from vlga_jax.run.history import read_csv
from vlga_jax.run.tracking import NullListener
from vlga_jax.training.data import load_test_data

OutcomeOf = Callable[[Path], dict[str, bytes]]


def timing_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "timing.json").read_text())


def num_trained(directory: Path) -> int:
    return timing_of(directory)["trained_here"]


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_run_to_the_end_leaves_these_files(finished: Any) -> None:
    left = {path.name for path in finished.workdir.iterdir()}
    assert left == {
        *("config.json", "ledger.sqlite", "history.csv", "result.json", "timing.json", "best", "figures"),
        *("weights", ".lock"),  # what a continued run needs
    }
    assert {path.name for path in (finished.workdir / "best").iterdir()} == {"architecture.json", "weights.npz"}
    assert {path.suffix for path in (finished.workdir / "figures").iterdir()} == {".svg", ".png"}
    assert not [path for path in finished.workdir.rglob("*") if re.search(r"pickle|\.pkl|\.part|tmp", path.name)]


def test_run_to_the_end_writes_its_configuration(finished: Any, make_config: Any) -> None:
    written = json.loads((finished.workdir / "config.json").read_text())
    assert len(written.pop("data_fingerprint")) == 64
    assert written == json.loads(json.dumps(dataclasses.asdict(make_config())))


def test_run_to_the_end_writes_a_history_of_each_individual(finished: Any, ledger_rows: Any) -> None:
    with open(finished.workdir / "history.csv", newline="") as file:
        columns = next(csv.reader(file))
    names = (
        "phase,generation,individual,origin,parent_a,parent_b,chromosome,learning_rate,network,epochs,fitness,status"
    )
    assert columns == names.split(",")
    rows = read_csv(finished.workdir / "history.csv")
    assert [(row.phase, row.generation, row.individual) for row in rows] == [
        (phase, generation, individual) for phase in range(2) for generation in range(2) for individual in range(4)
    ]
    for row in rows:
        assert (row.generation == 0) == (row.origin == "initial")
        parents = (row.parent_a, row.parent_b)
        if row.origin == "initial":
            assert parents == (None, None)
        elif row.origin == "child":
            assert set(parents) <= set(range(4)) and row.parent_a != row.parent_b
        else:
            assert row.origin in ("survivor", "mutant") and row.parent_a in range(4) and row.parent_b is None
    recorded = {
        digest: (status, fitness) for digest, _, _, status, fitness, *_ in ledger_rows(finished.workdir).values()
    }
    assert {row.network: (row.status, row.fitness) for row in rows} == recorded
    assert len({row.fitness for row in rows}) > 3, "a search among equals would show nothing"


def test_run_to_the_end_writes_its_result(finished: Any, ledger_rows: Any) -> None:
    result = json.loads((finished.workdir / "result.json").read_text())
    rows = read_csv(finished.workdir / "history.csv")
    assert result["best_fitness"] == max(row.fitness for row in rows)
    assert result["num_individuals"] == len(rows) == 16
    assert result["num_evaluations"] == len({row.network for row in rows}) == len(ledger_rows(finished.workdir))
    assert 0.1 < result["test_accuracy"] == result["final"]["test_accuracy"] <= 1.0
    assert timing_of(finished.workdir)["final_images_per_second"] > 0
    assert (result["final"]["num_epochs"], result["final"]["num_test_examples"]) == (2, 359)
    assert result["versions"]["vlga_jax"] == vlga_jax.__version__
    best = max((row for row in rows if row.phase == 1), key=lambda row: row.fitness)
    architecture = result["architecture"]
    assert (architecture["digest"], architecture["fitness"]) == (best.network, best.fitness)
    assert architecture["chromosome"] == best.chromosome
    assert architecture["found_in"] == {"phase": 1, "generation": best.generation, "individual": best.individual}
    weights = np.load(finished.workdir / "best" / "weights.npz")
    trained = sum(weights[name].size for name in weights.files if name.startswith("params/"))
    assert result["num_parameters"] == trained
    assert not re.search("second|wall|date|host", json.dumps(result))
    timing = timing_of(finished.workdir)
    assert (timing["trained_here"], timing["known_before"]) == (result["num_evaluations"], 0)


def test_run_twice_with_the_same_seed_leaves_the_same_bytes(finished: Any, twin: Any, outcome_of: OutcomeOf) -> None:
    assert outcome_of(twin.workdir) == outcome_of(finished.workdir)
    assert files_in(twin.workdir / "figures") == files_in(finished.workdir / "figures")
    assert (twin.workdir / "config.json").read_bytes() == (finished.workdir / "config.json").read_bytes()


def test_run_with_another_seed_differs_and_loads_the_test_set_once_after_the_search(
    finished: Any, make_config: Any, tmp_path: Path, outcome_of: OutcomeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[int, bool]] = []

    def load(*args: Any) -> Any:
        trained_to_the_end = bool(list(tmp_path.glob("final/*/2")))  # the checkpoint after as many epochs
        loaded.append((len(read_csv(tmp_path / "history.csv")), trained_to_the_end))
        return load_test_data(*args)

    monkeypatch.setattr(pipeline, "load_test_data", load)
    pipeline.run(make_config({"seed": 1}), tmp_path)
    assert loaded == [(16, True)]
    other, one = outcome_of(tmp_path), outcome_of(finished.workdir)
    assert [name for name in one if other[name] == one[name]] == []
    pipeline.run(make_config({"seed": 1}), tmp_path)
    assert len(loaded) == 1


@pytest.mark.usefixtures("drawn")
def test_run_again_when_finished_trains_nothing_and_leaves_the_same_bytes(copied: Path, make_config: Any) -> None:
    before = files_in(copied)
    result = pipeline.run(make_config(), copied)
    after = files_in(copied)
    assert num_trained(copied) == 0
    assert timing_of(copied)["known_before"] == result["num_evaluations"]
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {"timing.json"}


def test_run_with_more_phases_goes_on_from_where_it_was(
    copied: Path, make_config: Any, finished: Any, outcome_of: OutcomeOf, tmp_path: Path
) -> None:
    bare = Path(shutil.copytree(copied, tmp_path / "bare"))
    shutil.rmtree(bare / "weights")
    for directory in (copied, bare):
        pipeline.run(make_config({"search.num_phases": 3}), directory)
        assert 0 < num_trained(directory) <= 8
        history = (directory / "history.csv").read_bytes()
        assert history.startswith((finished.workdir / "history.csv").read_bytes())
        assert len(read_csv(directory / "history.csv")) == 24
    assert outcome_of(bare) == outcome_of(copied), "weights that are gone are trained again, to the same bits"


def test_run_with_more_generations_starts_with_the_same_first_ones(
    copied: Path, make_config: Any, finished: Any
) -> None:
    pipeline.run(make_config({"search.num_generations": 3}), copied)
    rows = read_csv(copied / "history.csv")
    assert len(rows) == 24
    assert rows[:8] == read_csv(finished.workdir / "history.csv")[:8]


def test_run_with_another_search_is_refused_and_changes_nothing(copied: Path, make_config: Any) -> None:
    before = files_in(copied)
    with pytest.raises(InputError, match=r"fitness.epochs was 1, is 2; search.population_size was 4, is 6\)"):
        pipeline.run(make_config({"search.population_size": 6, "fitness.epochs": 2}), copied)
    assert files_in(copied) == before


def test_run_with_another_final_training_keeps_the_search_and_comes_back(
    copied: Path, make_config: Any, finished: Any, outcome_of: OutcomeOf
) -> None:
    wanted = outcome_of(finished.workdir)
    result = pipeline.run(make_config({"final.epochs": 1, "tracking.progress": "plain"}), copied)
    assert result["final"]["num_epochs"] == 1
    assert num_trained(copied) == 0
    other = outcome_of(copied)
    assert {name for name in wanted if other[name] == wanted[name]} == {"history.csv"}
    pipeline.run(make_config(), copied)
    assert outcome_of(copied) == wanted


def test_run_in_a_directory_in_use_is_refused(copied: Path, make_config: Any) -> None:
    config = json.loads((copied / "config.json").read_text())
    with workdir.opened(copied, config), pytest.raises(InputError, match="is in use by another run"):
        pipeline.run(make_config(), copied)


def test_run_with_another_runs_ledger_trains_nothing_in_the_search(
    copied: Path, finished: Any, make_config: Any, tmp_path: Path, outcome_of: OutcomeOf
) -> None:
    workdir, ledger = tmp_path / "run", copied / "ledger.sqlite"  # a copy: SQLite makes files beside what it reads
    before = ledger.read_bytes()
    pipeline.run(make_config({"fitness.ledger": str(ledger)}), workdir)
    assert num_trained(workdir) == 0
    assert outcome_of(workdir) == outcome_of(finished.workdir)
    assert ledger.read_bytes() == before


def test_run_without_weights_and_best_makes_the_same_again(
    copied: Path, make_config: Any, finished: Any, outcome_of: OutcomeOf
) -> None:
    shutil.rmtree(copied / "weights")
    shutil.rmtree(copied / "best")
    pipeline.run(make_config(), copied)
    assert num_trained(copied) == 0
    assert outcome_of(copied) == outcome_of(finished.workdir)


def test_run_with_features_recomputed_gives_each_individual_the_same_fitness(
    finished: Any, make_config: Any, tmp_path: Path
) -> None:
    pipeline.run(make_config({"fitness.features": "recomputed", "final.epochs": 1}), tmp_path)
    cached, recomputed = (read_csv(directory / "history.csv") for directory in (finished.workdir, tmp_path))
    assert [row.network for row in cached] == [row.network for row in recomputed]
    for one, other in zip(cached, recomputed, strict=True):
        assert abs(one.fitness - other.fitness) <= 1e-3


def test_run_with_results_of_another_environment_uses_them_only_on_request(
    copied: Path, make_config: Any, outcome_of: OutcomeOf, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = outcome_of(copied)
    with sqlite3.connect(copied / "ledger.sqlite") as database:
        database.execute("UPDATE evaluations SET environment = 'elsewhere'")
    database.close()
    shutil.copytree(copied, copied.with_name("other"))
    pipeline.run(make_config({"fitness.any_environment": True}), copied)
    assert num_trained(copied) == 0
    assert outcome_of(copied) == wanted
    copied = copied.with_name("other")
    pipeline.run(make_config({"tracking.progress": "plain"}), copied)
    assert num_trained(copied) == json.loads(wanted["result.json"])["num_evaluations"]
    assert outcome_of(copied) == wanted
    assert "the ledger also holds results of elsewhere" in capsys.readouterr().out


def test_run_elsewhere_has_no_weights(copied: Path, make_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sibling = Path(shutil.copytree(copied, copied.with_name("sibling")))
    names = [path.name for path in (copied / "weights").iterdir() if path.is_dir()]

    def kept(config: Any) -> list[int]:
        with laboratory.opened(config, copied, NullListener()) as lab, lab.sibling(config, sibling) as other:
            return [sum(map(each.evaluator.weights.has, names)) for each in (lab, other)]

    assert names and kept(make_config()) == [len(names)] * 2
    monkeypatch.setattr(laboratory, "environment", lambda *_, **__: "elsewhere")
    assert kept(make_config({"fitness.any_environment": True})) == [len(names)] * 2
    assert kept(make_config()) == [0, 0]


def test_run_in_which_no_network_may_be_trained_is_refused_and_can_be_read_up(
    make_config: Any, tmp_path: Path, ledger_rows: Any
) -> None:
    config = make_config({"fitness.max_parameters": 10})
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"trained: \d+ parameters, over .*; only 0% of the networks .*; raise them"
        ):
            pipeline.run(config, tmp_path)
    rows = list(ledger_rows(tmp_path).values())
    assert rows and {(row[3], row[4]) for row in rows} == {("too_many_parameters", 0.0)}
    assert not (tmp_path / "result.json").exists()


def test_load_of_a_finished_run_is_as_accurate_as_its_result_says(finished: Any, make_config: Any) -> None:
    started = time.perf_counter()
    predict = vlga_jax.load(finished.workdir)
    images, labels = load_test_data(make_config().data)
    accuracy = float(np.mean(predict(images) == labels))
    assert accuracy == json.loads((finished.workdir / "result.json").read_text())["test_accuracy"]
    assert predict.class_names == tuple("0123456789")
    assert time.perf_counter() - started < 60


class LooksLeft:
    """Stands in for a `Predictor`: sees class 1 where the left half is brighter, class 0 where it is not, or hardly."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        left, right = images[:, :, 0].sum(axis=(1, 2)), images[:, :, 1].sum(axis=(1, 2))
        sure = np.where(left > right, 0.9, 0.4)
        return np.stack([1 - sure, sure], axis=1)


@pytest.mark.parametrize(("flip", "channels"), [(True, 3), (True, 1), (False, 3)])
def test_test_with_flip_adds_the_accuracy_of_both_views_of_colour_images(flip: bool, channels: int) -> None:
    images = np.zeros((4, 1, 2, channels), np.uint8)
    images[[0, 1], 0, 0], images[2, 0, 1] = 1, 1  # bright at the left, left, right, nowhere
    config: Any = SimpleNamespace(test_flip=flip)
    tested = pipeline._test(LooksLeft(), images, np.array([1, 0, 1, 0]), config)  # type: ignore[arg-type]
    expected = {"test_accuracy": 0.5}  # sees 1, 1, 0, 0
    if flip and channels == 3:
        expected["test_accuracy_with_flip"] = 0.75  # sees 1, 1, 1, 0: sure of the third in its mirror image
    assert tested == expected
