"""What the comparison with Optuna makes of our configuration and of both sides' results; the searches take minutes."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from benchmarks import against_optuna
from benchmarks.against_optuna import from_start, make_job, optuna_record
from benchmarks.peers.optuna_job import read_job
from experiments import compare_optuna
from vlga_jax.checks import InputError
from vlga_jax.evolution.aging import SearchConfig as AgingConfig
from vlga_jax.evolution.vlga import SearchConfig as VLGAConfig
from vlga_jax.run.comparing import parse_comparison
from vlga_jax.run.laboratory import RunConfig
from vlga_jax.run.report.records import RunRecord

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "against_optuna"


@pytest.fixture
def ours() -> list[RunConfig]:
    comparison = parse_comparison(compare_optuna.get_config().to_dict())
    return [comparison.run_config(name, 0) for name in comparison.strategies]


def test_make_job_is_a_job_that_the_peer_accepts(ours: list[RunConfig], tmp_path: Path) -> None:
    job = make_job(ours, tmp_path / "images.npz", seed=3, seconds=40.0)
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    assert read_job(path)["seed"] == 3


def test_nobody_may_have_more_convolutions_than_the_others(ours: list[RunConfig], tmp_path: Path) -> None:
    most = make_job(ours, tmp_path / "images.npz", 0, 40.0)["max_convolutions"]
    (phases,) = (one.search.num_phases for one in ours if isinstance(one.search, VLGAConfig))
    (convolutions,) = (one.search.num_convolutions for one in ours if isinstance(one.search, AgingConfig))
    assert 2 * phases == most >= convolutions


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [("final", "ema_decay", 0.99), ("fitness", "optimizer", "sgd"), ("space", "dropout_rates", (0.0, 0.5))],
)
def test_make_job_refuses_what_the_peer_cannot_do(
    group: str, field: str, value: object, ours: list[RunConfig], tmp_path: Path
) -> None:
    changed = dataclasses.replace(getattr(ours[0], group), **{field: value})
    all_changed = [dataclasses.replace(config, **{group: changed}) for config in ours]
    with pytest.raises(InputError, match=rf"config\.base\.{group}\.{field}"):
        make_job(all_changed, tmp_path / "images.npz", 0, 40.0)
    with pytest.raises(InputError, match=rf"{group}.*must be alike"):
        make_job([ours[0], all_changed[1]], tmp_path / "images.npz", 0, 40.0)


def test_every_field_of_training_and_space_reaches_the_peer_or_is_fixed(ours: list[RunConfig], tmp_path: Path) -> None:
    job = make_job(ours, tmp_path / "images.npz", 0, 40.0)
    ours_alone = {"final": {"test_flip"}, "fitness": {"features", "ledger", "any_environment"}}
    ours_alone["fitness"] |= {"compile_threads", "deterministic", "layers"}  # how, not what, we train
    passed = {"final": set(job["final"]), "fitness": set(job)}
    for group in ("final", "fitness"):
        fields = {field.name for field in dataclasses.fields(getattr(ours[0], group))}
        assert fields == passed[group] & fields | set(against_optuna._FIXED[group]) | ours_alone[group], group


def test_from_start_counts_what_evaluations_did_not_take_before_the_first() -> None:
    record = RunRecord("vlga", 0, 0.5, 0.6, 10, 6, 90.0, 0, ((3.0, 0.4), (6.0, 0.5)), (40.0, 90.0), ())
    assert from_start(record, 96.5).times == (46.5, 96.5)
    assert from_start(record, 96.5).seconds == 96.5


@pytest.mark.parametrize(("field", "value"), [("seconds", 40.0), ("rungs", [1])])
def test_require_same_refuses_a_result_of_something_else(field: str, value: object) -> None:
    asked = {"seconds": 30.0, "rungs": (1, 2)}
    against_optuna.require_same(Path("aging-0.json"), json.loads(json.dumps(asked)), asked)
    with pytest.raises(InputError, match=f"aging-0.json.* another {field}"):
        against_optuna.require_same(Path("aging-0.json"), {"seconds": 30.0, "rungs": [1, 2], field: value}, asked)


def test_results_that_are_kept_are_of_what_the_experiment_asks_now(ours: list[RunConfig]) -> None:
    comparison = parse_comparison(compare_optuna.get_config().to_dict())
    for name, config in zip(comparison.strategies, ours, strict=True):
        for kept in sorted(RESULTS.glob(f"{name}-*.json")):
            against_optuna.require_same(kept, json.loads(kept.read_text())["asked"], against_optuna.asked_of(config))
    seeds = range(len(list(RESULTS.glob("vlga-*.json"))))
    assert seeds
    for seed in seeds:
        job = json.loads((RESULTS / f"optuna-{seed}.job.json").read_text())
        made = json.loads(json.dumps(make_job(ours, Path("images.npz"), seed, job["budget_seconds"])))
        assert {**job, "images": made["images"]} == made  # where images lie does not matter
    sides = (*comparison.strategies, "optuna")
    expected = {f"{side}-{seed}.json" for side in sides for seed in seeds}
    assert {path.name for path in RESULTS.glob("*.json")} == expected | {f"optuna-{seed}.job.json" for seed in seeds}


def test_optuna_record_has_a_point_for_each_complete_trial_at_the_epochs_of_all_before() -> None:
    trials = [
        {"state": "complete", "value": 0.3, "epochs": 3, "at_seconds": 5.0},
        {"state": "pruned", "value": 0.1, "epochs": 1, "at_seconds": 6.0},
        {"state": "complete", "value": 0.2, "epochs": 3, "at_seconds": 9.0},
        {"state": "cut", "value": None, "epochs": 2, "at_seconds": 12.0},
    ]
    best = {"fitness": 0.3, "num_parameters": 7}
    record = optuna_record({"trials": trials, "best": best, "test_accuracy": 0.4, "search_seconds": 12.0}, 4)
    assert record.points == ((3.0, 0.3), (7.0, 0.2))
    assert record.times == (5.0, 9.0)
    assert (record.seed, record.epochs, record.seconds) == (4, 9, 12.0)
    assert math.isclose(record.test_accuracy, 0.4)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--data_dir=nowhere"], "--data_dir"), (["--seconds=1"], "seconds"), (["seven"], "argument")],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = against_optuna._FLAGS
    flags.unparse_flags()
    program = ["against_optuna", f"--workdir={tmp_path / 'work'}", *arguments]
    assert against_optuna.run_command(program, None, flags, against_optuna.main) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
