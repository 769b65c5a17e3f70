"""A fitness on a part of the training images, the final training on all of them."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vlga_jax.fitness.executors import local
from vlga_jax.run import finish, pipeline


@pytest.mark.parametrize(("part", "searched"), [(100, 100), (0, 320)])
def test_run_searches_on_the_part_and_trains_the_winner_on_all(
    make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, searched: int
) -> None:
    trained_on: list[tuple[str, int]] = []

    def note(module: ModuleType) -> None:
        run_epochs = module.run_epochs

        def noted(plan: Any, programs: Any, state: Any, train: Any, *rest: Any, **named: Any) -> Any:
            trained_on.append((module.__name__, len(train)))
            return run_epochs(plan, programs, state, train, *rest, **named)

        monkeypatch.setattr(module, "run_epochs", noted)

    note(local)
    note(finish)
    changes = {"fitness.num_train_examples": part, "search.num_phases": 1}
    pipeline.run(make_config(changes), tmp_path)
    assert set(trained_on) == {(local.__name__, searched), (finish.__name__, 320)}
    trained_on.clear()
    pipeline.run(make_config(changes), tmp_path)
    assert not trained_on, "all of it is known"
