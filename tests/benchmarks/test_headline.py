"""The headline's pieces can be parsed and are what they should be; bad input ends with one line."""

import dataclasses
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from benchmarks.headline import __main__ as headline
from benchmarks.headline.pieces import Piece, make_pieces
from benchmarks.headline.rows import DETERMINISM, ROWS, SCALES
from experiments import cifar10_report
from vlga_jax.config import read_command_line
from vlga_jax.run.laboratory import RunConfig, parse_config

DATA = ConfigDict({"name": "npz", "dir": "/data"})


def config_of(piece: Piece) -> RunConfig:
    return parse_config(read_command_line(piece.command[1:], Path("main.py")).values)


@pytest.mark.parametrize("scale", list(SCALES))
def test_make_pieces_gives_runs_that_can_be_parsed_and_differ(scale: str, tmp_path: Path) -> None:
    pieces = make_pieces(SCALES[scale], tmp_path, DATA, pytorch="python")
    runs = {piece.name: config_of(piece) for piece in pieces if "main.py" in piece.command}
    assert len({piece.name for piece in pieces}) == len(pieces)
    seeds = SCALES[scale].seeds
    expected = {f"{row.name}-0" for row in (*ROWS, *DETERMINISM.values())}
    assert runs.keys() == expected | {f"{name}-{seed}" for name in ("report", "baseline") for seed in range(seeds)}
    whole = scale == "full"
    precisions = {(config.fitness.precision, config.final.precision) for config in runs.values()}
    assert precisions == {("bfloat16" if whole else "float32",) * 2}
    assert all(config.seed == int(name.rpartition("-")[2]) for name, config in runs.items())
    assert runs["report-1"].search.parent_selection == "softmax"  # type: ignore[attr-defined]
    uniform = dataclasses.replace(runs["report-1"].search, parent_selection="uniform")  # type: ignore[type-var]
    assert runs["baseline-1"] == dataclasses.replace(runs["report-1"], search=uniform)
    assert runs["fixed_a-0"] == runs["fixed_b-0"]
    free = dataclasses.replace(runs["free-0"].fitness, deterministic=True)
    assert runs["fixed_a-0"] == dataclasses.replace(runs["free-0"], fitness=free)
    others = [name for name in runs if not name.startswith("fixed") and name != "long-0"]
    assert len({repr(runs[name]) for name in others}) == len(others)
    assert runs["long-0"].fitness.ledger == str(tmp_path / "ours-0" / "ledger.sqlite")
    budgets = {runs[f"{name}-0"].budget.epochs for name in ("ours", "random", "classical", "aging")}
    assert budgets == {400 if whole else 8}


def test_make_pieces_in_another_place_asks_for_the_same(tmp_path: Path) -> None:
    here = make_pieces(SCALES["full"], tmp_path, DATA, pytorch="python")
    there = make_pieces(
        SCALES["full"], tmp_path / "there", ConfigDict({"name": "cifar10", "dir": "/"}), pytorch="other"
    )
    assert [(one.name, one.identity) for one in here] == [(one.name, one.identity) for one in there]
    assert len({(one.name.rpartition("-")[0], one.identity) for one in here}) == len(here) - 2 * 2  # rounds are alike


def test_make_pieces_of_the_workload_is_a_round_of_each_in_turn(tmp_path: Path) -> None:
    with_rival = make_pieces(SCALES["full"], tmp_path, DATA, pytorch="python")
    names = [piece.name for piece in with_rival if piece.name.startswith("full")]
    assert names == [f"full-{who}-{number}" for number in range(3) for who in ("ours", "pytorch")]
    alone = make_pieces(SCALES["full"], tmp_path, DATA, pytorch="")
    assert [piece.name for piece in alone if piece.name.startswith("full")] == names[::2]


def test_make_pieces_gives_first_what_is_judged_most(tmp_path: Path) -> None:
    names = [piece.name for piece in make_pieces(SCALES["full"], tmp_path, DATA, pytorch="python")]
    first_seeds = (*DETERMINISM, "ours", "long", "report", "baseline", "paper", "random", "classical", "aging")
    assert names == [
        *("matrix-rate", "full-ours-0", "full-pytorch-0"),
        *(f"{name}-0" for name in first_seeds),
        *(f"{name}-{seed}" for seed in range(1, 5) for name in ("report", "baseline")),
        *(f"full-{who}-{number}" for number in (1, 2) for who in ("ours", "pytorch")),
    ]


def test_make_pieces_own_what_is_theirs_alone(tmp_path: Path) -> None:
    pieces = make_pieces(SCALES["full"], tmp_path, DATA, pytorch="python")
    owned = {piece.name: piece.owns for piece in pieces}
    for piece in pieces:
        if "main.py" in piece.command:
            assert owned[piece.name] == (tmp_path / piece.name,) and piece.done.parent == tmp_path / piece.name
            assert piece.searched == tmp_path / piece.name / "final"
    assert owned["matrix-rate"] == owned["full-ours-0"] == ()
    assert owned["full-pytorch-1"] == (tmp_path / "full" / "pytorch-1.state",)


def test_make_pieces_in_pytorch_go_on_and_the_compared_do_not(tmp_path: Path) -> None:
    pieces = {piece.name: piece for piece in make_pieces(SCALES["full"], tmp_path, DATA, pytorch="python")}
    needs = {name for name, piece in pieces.items() if piece.needs_seconds}
    assert needs == {"matrix-rate", *(f"{name}-0" for name in DETERMINISM), *(f"full-ours-{n}" for n in range(3))}
    assert f"--state={tmp_path / 'full' / 'pytorch-2.state'}" in pieces["full-pytorch-2"].command


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["ours"], ["ours-0"]),
        (["baseline-1", "matrix-rate"], ["matrix-rate", "baseline-1"]),
        (["full-ours"], ["full-ours-0"]),
        (["report"], ["report-0", "report-1"]),
        (["full-pytorch", "long"], ["full-ours-0", "full-pytorch-0", "ours-0", "long-0"]),
    ],
)
def test_chosen_are_rows_and_pieces_in_their_own_order(only: list[str], names: list[str], tmp_path: Path) -> None:
    pieces = make_pieces(SCALES["small"], tmp_path, DATA, pytorch="python")
    assert [piece.name for piece in headline._chosen(pieces, only)] == names
    assert headline._chosen(pieces, []) == pieces


def test_make_pieces_of_a_changed_experiment_file_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {one.name: one.identity for one in make_pieces(SCALES["full"], tmp_path, DATA, pytorch="")}
    get_config = cifar10_report.get_config

    def changed() -> ConfigDict:
        config = get_config()
        config.final.label_smoothing = 0.3
        return config

    monkeypatch.setattr(cifar10_report, "get_config", changed)  # which the baseline's file calls
    after = {one.name: one.identity for one in make_pieces(SCALES["full"], tmp_path, DATA, pytorch="")}
    assert {name for name in before if before[name] != after[name]} == {f"baseline-{seed}" for seed in range(5)}


def test_settings_are_those_of_another_host_with_the_same_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for memory, gpu in ((32, "H200"), (128, "H200"), (32, "H100")):
        monkeypatch.setattr(headline, "machine", {"gpu": gpu, "memory_gib": memory, "processor": "any"}.copy)
        told.append(headline._settings("small", "random", whole=False))
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale=tiny"], "--scale"),
        (["--minutes=-1"], "minutes"),
        (["--minutes=1"], "must be at least 2, or 0"),
        (["rest"], "is no flag"),
        (["--scale=small", "--only=ours,theirs"], "--only='theirs': is no row or piece; they are aging, aging-0, base"),
        (["--data_dir=/nowhere", "--scale=small"], "no such directory"),
        ([], "needs an NVIDIA GPU"),
    ],
)
def test_main_of_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headline, "machine", lambda: {"gpu": ""})
    assert headline.main(["headline", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1
