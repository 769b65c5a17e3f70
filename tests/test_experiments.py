"""Commands that documents show can be parsed; a comparison compares different things."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from vlga_jax import compare
from vlga_jax.config import read_command_line
from vlga_jax.run.comparing import parse_comparison
from vlga_jax.run.laboratory import parse_config
from vlga_jax.run.ranking import parse_ranking

ROOT = Path(__file__).resolve().parents[1]
COMPARISONS = sorted(path.stem for path in (ROOT / "experiments").glob("compare_*.py"))
RANKINGS = sorted(path.stem for path in (ROOT / "experiments").glob("ranking_*.py"))
EXPERIMENTS = sorted(
    {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__", *COMPARISONS, *RANKINGS}
)


def commands(start: str) -> list[list[str]]:
    """The arguments of each command in a document's fences that starts so, once each."""
    found = []
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for fence in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL):
            lines = fence.replace("\\\n", " ").splitlines()
            found += [shlex.split(line.removeprefix(start)) for line in lines if line.startswith(f"{start} ")]
    return [list(each) for each in dict.fromkeys(map(tuple, found))]


@pytest.mark.parametrize("arguments", commands("python main.py"), ids=" ".join)
def test_command_in_a_document_can_be_parsed(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    parse_config(read_command_line(["main.py", *arguments], ROOT / "experiments" / "digits.py").values)


@pytest.mark.parametrize("arguments", commands("python -m vlga_jax.compare"), ids=" ".join)
def test_comparison_in_a_document_can_be_parsed(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    named = [compare._unaliased(argument) for argument in arguments]
    parse_comparison(read_command_line(["compare", *named], Path()).values)


@pytest.mark.parametrize("arguments", commands("python -m vlga_jax.ranking"), ids=" ".join)
def test_ranking_in_a_document_can_be_parsed(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    parse_ranking(read_command_line(["ranking", *arguments], Path()).values)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_can_be_parsed(name: str) -> None:
    parse_config(importlib.import_module(f"experiments.{name}").get_config().to_dict())


@pytest.mark.parametrize("name", RANKINGS)
def test_ranking_can_be_parsed(name: str) -> None:
    parse_ranking(importlib.import_module(f"experiments.{name}").get_config().to_dict())


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison_compares_different_searches(name: str) -> None:
    comparison = parse_comparison(importlib.import_module(f"experiments.{name}").get_config().to_dict())
    configs = {repr(comparison.run_config(strategy, 0)): strategy for strategy in comparison.strategies}
    assert sorted(configs.values()) == sorted(comparison.strategies)
