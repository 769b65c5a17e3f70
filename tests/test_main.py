"""Bad input through the real command line: exit code 2 and one line that names the field, the value and the remedy."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import main
from vlga_jax import backend
from vlga_jax.checks import InputError
from vlga_jax.run import pipeline
from vlga_jax.run.laboratory import RunConfig

ROOT = Path(__file__).resolve().parents[1]
Refuse = Callable[..., str]


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Runs main in an empty directory, with a workdir "run", and returns the one line it must end with."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(backend, "configure_backend", lambda config: None)  # of the whole test session

    def run(*arguments: str) -> str:
        assert main.main(["main.py", "--workdir=run", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("argument", "said", "remedy"),
    [
        ("--config.search.nope=1", "config.search.nope='1'", "unknown field; did you mean config.search.winner?"),
        ("--config.nope.nope=1", "config.nope.nope='1'", "unknown field; the experiment has budget, data, final"),
        ("--config.compare.num_seeds=2", "config.compare.num_seeds='2'", "unknown field; the experiment has budget"),
        ("--config.serach.num_phases=2", "config.serach.num_phases='2'", "did you mean config.search.num_phases?"),
        ("--config.seed.x=1", "config.seed.x='1'", "unknown field; did you mean config.seed?"),
        ("--noconfig.nope", "config.nope=''", "unknown field; "),
        ("--nope=1", "--nope='1'", "unknown flag; python main.py --help lists them"),
        ("--workdri=x", "--workdri='x'", "unknown flag; python main.py --help lists them"),
        ("--config.seed=abc", "config.seed='abc'", "must be a whole number"),
        ("--config.seed=", "config.seed=''", "must be a whole number"),
        ("--config.seed", "config.seed=''", "must be a whole number"),
        ("--config.seed=-1", "config.seed=-1", "at least 0 and at most 4294967295"),
        ("--config.seed=4294967296", "config.seed=4294967296", "at least 0 and at most 4294967295"),
        ("--config.search=5", "config.search='5'", "is a group of fields; override them one by one"),
        ("--config.search.population_size=2.5", "config.search.population_size='2.5'", "must be a whole number"),
        ("--config.search.population_size=0", "config.search.population_size=0", "must be at least 2"),
        ("--config.search.population_size=99999999999", "config.search.population_size=99999999999", "at most 10000"),
        ("--config.search.num_generations=0", "config.search.num_generations=0", "must be at least 1"),
        ("--config.search.num_phases=0", "config.search.num_phases=0", "must be at least 1"),
        ("--config.search.num_elites=-1", "config.search.num_elites=-1", "must be at least 0"),
        ("--config.search.num_elites=99", "config.search.num_elites=99", "must be at most population_size="),
        ("--config.search.mutation_rate=1.5", "config.search.mutation_rate=1.5", "at least 0 and at most 1"),
        ("--config.search.survival_rate=-0.1", "config.search.survival_rate=-0.1", "at least 0 and at most 1"),
        ("--config.search.unfit_survival_prob=nan", "config.search.unfit_survival_prob=nan", "a finite number"),
        ("--config.search.parent_temperature=0", "config.search.parent_temperature=0.0", "must be at least 1e-06"),
        ("--config.search.crossover=", "config.search.crossover=''", "must be one of uniform, single_point"),
        ("--config.search.stop_rule=2", "config.search.stop_rule='2'", "must be true or false"),
        ("--config.space.channels=", "config.space.channels=('',)", "must not be empty; give at least one value"),
        ("--config.space.channels=()", "config.space.channels=()", "must not be empty; give at least one value"),
        ("--config.space.channels=8.5", "config.space.channels=(8.5,)", "must be a whole number"),
        ("--config.space.channels=8,x", "config.space.channels=('8,x',)", "must be a whole number"),
        ("--config.space.channels=8,0", "config.space.channels=(8, 0)", "at least 1 and at most 65536"),
        ("--config.space.channels=8,8", "config.space.channels=(8, 8)", "give each once"),
        ("--config.space.channels=(8,16", "config.space.channels='(8,16'", "must be a list of values, as in 8,16"),
        ("--config.space.kernels=3,4", "config.space.kernels=(3, 4)", "must be odd"),
        ("--config.space.kernels=2", "config.space.kernels=(2,)", "must be odd"),
        ("--config.space.activations=relu,gelu", "config.space.activations=('relu,gelu',)", "must be one of relu, elu"),
        ("--config.space.pool_stride=3", "config.space.pool_stride=3", "at least 1 and at most 2"),
        ("--config.fitness.epochs=-1", "config.fitness.epochs=-1", "must be at least 1"),
        ("--config.fitness.batch_size=0", "config.fitness.batch_size=0", "must be at least 1"),
        ("--config.fitness.learning_rate=-1", "config.fitness.learning_rate=-1.0", "must be above 0"),
        ("--config.final.epochs=0", "config.final.epochs=0", "must be at least 1"),
        ("--config.data.num_train_examples=-5", "config.data.num_train_examples=-5", "must be at least 0"),
        ("--config.data.name=", "config.data.name=''", "must not be empty"),
        ("--config.tracking.wandb=on", "config.tracking.wandb='on'", "must be one of disabled, offline, online"),
        ("--config", "--config=''", "needs a value, as in --config="),
        ("--config=", "--config=''", "no such file; give an experiment"),
        ("--config=nowhere.py", "--config='nowhere.py'", "no such file; give an experiment"),
        ("--config=..", "--config='..'", "no such file; give an experiment"),
        ("--workdir", "--workdir=''", "needs a value, as in --workdir="),
        ("--workdir=", "--workdir=''", "must not be empty; leave the flag out"),
        ("--flagfile=nowhere", "command line='--workdir=run --flagfile=nowhere'", "python main.py --help"),
        ("resume", "argument='resume'", "is no flag; write --config.NAME=VALUE"),
        ("-", "argument='-'", "is no flag; write --config.NAME=VALUE"),
    ],
)
def test_main_of_a_bad_argument_refuses_it_and_leaves_nothing(
    refuse: Refuse, argument: str, said: str, remedy: str
) -> None:
    line = refuse(argument)
    assert line.startswith(f"{said}: ")
    assert remedy in line.removeprefix(said)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("experiment", "groups", "program"),
    [("compare_digits", "base, compare, strategies", "compare"), ("ranking_cifar10", "base, ranking", "ranking")],
)
def test_main_of_another_programs_experiment_names_the_command_for_it(
    experiment: str, groups: str, program: str, refuse: Refuse
) -> None:
    line = refuse(f"--config={ROOT / 'experiments' / experiment}.py")
    assert line.startswith(f"config='{groups}': ")
    assert line.endswith(f"run `python -m vlga_jax.{program}` with it")


@pytest.mark.parametrize(("workdir", "left"), [([], []), (["--workdir=mine"], ["mine"])])
def test_main_that_fails_before_the_search_leaves_only_the_directory_that_was_named(
    workdir: list[str],
    left: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "configure_backend", lambda config: None)  # of the whole test session
    experiment = f"--config={ROOT / 'experiments' / 'cifar10.py'}"
    assert main.main(["main.py", experiment, "--config.data.dir=nowhere", *workdir]) == 2
    assert "is not prepared in nowhere" in capsys.readouterr().err
    runs = Path("runs")
    assert [path.name for path in (runs.iterdir() if runs.is_dir() else Path().iterdir())] == left


def test_main_that_fails_in_the_search_keeps_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(config: RunConfig, directory: Path) -> None:
        directory.mkdir(parents=True)
        for name in (".lock", "ledger.sqlite"):
            (directory / name).touch()
        raise InputError("search", "phase 1", "no network could be trained")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "configure_backend", lambda config: None)
    monkeypatch.setattr(pipeline, "run", fails)
    assert main.main(["main.py"]) == 2
    (directory,) = Path("runs").iterdir()
    assert {path.name for path in directory.iterdir()} == {".lock", "ledger.sqlite"}


def test_main_of_a_switch_with_its_value_apart_refuses_the_value(refuse: Refuse) -> None:
    assert refuse("--config.final.flip", "False").startswith("argument='False': is no flag")


def test_main_of_several_overrides_names_the_one_that_is_wrong(refuse: Refuse) -> None:
    line = refuse("--config.tracking.wandb=offline", "--config.tracking.wandb_timeout_seconds=soon", "--config.seed=1")
    assert line == "config.tracking.wandb_timeout_seconds='soon': must be a number"


@pytest.mark.parametrize(
    ("name", "source", "remedy"),
    [
        ("notes.txt", "hello", "is no Python file; its name must end in .py"),
        ("syntax.py", "def get_config(:", "is no experiment in Python with get_config() (SyntaxError: "),
        ("data.py", "\x00\x01\x02", "is no experiment in Python with get_config() ("),
        ("none.py", "x = 1", "(AttributeError: module 'experiment' has no attribute 'get_config')"),
        ("raises.py", "raise RuntimeError('two\\nlines')", "(RuntimeError: two lines)"),
        ("fails.py", "def get_config(): return 1 / 0", "(ZeroDivisionError: division by zero)"),
        ("leaves.py", "raise SystemExit(0)", "(SystemExit: 0)"),
        ("imports.py", "import no_such_module", "(ModuleNotFoundError: No module named 'no_such_module')"),
        ("mapping.py", "def get_config(): return {'seed': 1}", "must return an ml_collections.ConfigDict"),
    ],
)
def test_main_of_a_config_that_is_no_experiment_says_why(
    refuse: Refuse, tmp_path: Path, name: str, source: str, remedy: str
) -> None:
    file = tmp_path / name
    file.write_text(source, encoding="utf-8")
    line = refuse(f"--config={file}", "--config.seed=1")
    assert line.startswith(f"--config='{file}': ")
    assert remedy in line
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("config.more = 3", "config.more=3: unknown field"),
        ("del config.seed", "config.seed=None: is missing"),
        ("del config.search", "config.search=None: is missing"),
        ("config = config.to_dict() | {'search': 3}; config = ConfigDict(config)", "config.search=3: must be a group"),
        ("config.seed = 'one'", "--config="),  # ConfigDict keeps a field's type
    ],
)
def test_main_of_an_experiment_with_wrong_fields_names_them(
    refuse: Refuse, tmp_path: Path, change: str, said: str
) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "from experiments import default\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        f"    {change}\n"
        "    return config\n",
        encoding="utf-8",
    )
    assert refuse(f"--config={file}").startswith(said)


def test_main_of_a_missing_data_set_names_the_command_that_prepares_it(refuse: Refuse, tmp_path: Path) -> None:
    line = refuse("--config.data.name=cifar10", f"--config.data.dir={tmp_path}/nowhere")
    assert line.startswith("config.data.name='cifar10': is not prepared in ")
    assert f"`python -m vlga_jax.training.data prepare cifar10 --dir={tmp_path}/nowhere`" in line
    assert not Path("run/config.json").exists()  # so that the corrected command may use the directory


@pytest.mark.parametrize("below", ["", "/below"])
def test_main_of_a_workdir_that_cannot_be_written_says_so(refuse: Refuse, tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()
    line = refuse(f"--workdir={file}{below}")
    assert line.startswith(f"workdir='{file}{below}': cannot be written (")
    assert line.endswith("; give another")


def make_other_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (value TEXT)")
    database.close()


def make_newer_ledger(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda path: path.write_text("no database", encoding="utf-8"), "is no ledger that can be used"),
        (make_other_database, "is no ledger that can be used"),
        (make_newer_ledger, "is a ledger of version 99"),
        (lambda path: path.mkdir(), "no such file; give the ledger.sqlite of another run"),
        (lambda path: None, "no such file; give the ledger.sqlite of another run"),
    ],
)
def test_main_of_a_ledger_that_is_none_refuses_it(
    refuse: Refuse, tmp_path: Path, make: Callable[[Path], Any], remedy: str
) -> None:
    path = tmp_path / "other.sqlite"
    make(path)
    line = refuse(f"--config.fitness.ledger={path}")
    assert line.startswith(f"config.fitness.ledger='{path}': {remedy}")
    assert not Path("run/config.json").exists()


def test_main_of_a_workdir_whose_ledger_is_broken_leaves_it_alone(refuse: Refuse) -> None:
    Path("run").mkdir()
    ledger = Path("run/ledger.sqlite")
    ledger.write_text("no database", encoding="utf-8")
    assert refuse().startswith("workdir='run/ledger.sqlite': is no ledger that can be used (")
    assert ledger.read_text(encoding="utf-8") == "no database"


def test_main_of_good_input_says_where_it_runs_and_returns_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[RunConfig, Path]] = []
    monkeypatch.setattr(pipeline, "run", lambda config, workdir: runs.append((config, workdir)))
    monkeypatch.setattr(backend, "configure_backend", lambda config: None)
    monkeypatch.chdir(tmp_path)
    assert main.main(["main.py", "--config.seed=3", "--workdir=here"]) == 0
    assert main.main(["main.py"]) == 0
    (first, named), (second, made) = runs
    assert (first.seed, first.data.name, named) == (3, "digits", Path("here"))
    assert (second.seed, made.parent) == (0, Path("runs"))
    assert capsys.readouterr().out.splitlines() == ["workdir: here", f"workdir: {made}"]


def test_main_of_an_interrupted_run_says_how_to_continue(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(config: RunConfig, workdir: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupt)
    monkeypatch.setattr(backend, "configure_backend", lambda config: None)
    assert main.main(["main.py", "--workdir=here"]) == 130
    assert capsys.readouterr().err.splitlines() == ["interrupted; to continue, repeat the command with --workdir=here"]


def test_main_interrupted_before_there_is_a_run_names_no_directory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(config: RunConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "configure_backend", interrupt)
    assert main.main(["main.py"]) == 130
    assert capsys.readouterr().err.splitlines() == ["interrupted"]
