"""A fitness on a part of the training images, the final training on all of them."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vlga_jax.fitness.evaluation import request_from_json
from vlga_jax.fitness.executors import local
from vlga_jax.run import finish, pipeline
from vlga_jax.training.data import load_training_data


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where a training ran, and on how many examples, for every one."""
    noted: list[tuple[str, int]] = []

    def note(module: ModuleType) -> None:
        run_epochs = module.run_epochs

        def noting(plan: Any, programs: Any, state: Any, train: Any, *rest: Any, **named: Any) -> Any:
            noted.append((module.__name__.rpartition(".")[2], len(train)))
            return run_epochs(plan, programs, state, train, *rest, **named)

        monkeypatch.setattr(module, "run_epochs", noting)

    note(local)
    note(finish)
    return noted


def test_run_searches_on_the_part_and_trains_the_winner_on_all(
    make_config: Any, tmp_path: Path, trained_on: list[tuple[str, int]], ledger_rows: Any
) -> None:
    one_generation = {"search.num_phases": 1, "search.num_generations": 1}
    part = make_config({"fitness.num_train_examples": 100, **one_generation})
    pipeline.run(part, tmp_path / "part")
    assert set(trained_on) == {("local", 100), ("finish", 320)}
    data = load_training_data(part.data)
    asked = {request_from_json(row[2]).data for row in ledger_rows(tmp_path / "part").values()}
    assert asked == {data.part(100, part.data.split_seed).fingerprint} != {data.fingerprint}

    trained_on.clear()
    pipeline.run(part, tmp_path / "part")
    assert not trained_on, "all of it is known"
    known = {"fitness.ledger": str(tmp_path / "part" / "ledger.sqlite"), **one_generation}
    pipeline.run(make_config(known), tmp_path / "all")
    assert set(trained_on) == {("local", 320), ("finish", 320)}, "a fitness on a part is another one"
