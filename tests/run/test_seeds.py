"""What a search's fields are called where several searches run."""

import pytest

from vlga_jax.checks import InputError
from vlga_jax.run.seeds import SHARED, Names

OF_A_STRATEGY = Names("aging", {"final": {"epochs": 3}, "search": {"strategy": "aging"}})


@pytest.mark.parametrize(
    ("message", "shared", "of_strategy"),
    [
        ("--config.final.epochs=9", "--config.base.final.epochs=9", "--config.strategies.aging.final.epochs=9"),
        ("config.final.init=scratch", "config.base.final.init=scratch", "config.base.final.init=scratch"),
        ("(config.search.winner)", "(config.base.search.winner)", "(config.strategies.aging.search.winner)"),
        ("config.budget.seconds", "config.base.budget.seconds", "config.compare.budget_seconds"),
        ("choices of config.space;", "choices of config.base.space;", "choices of config.base.space;"),
        *((same, same, same) for same in ("config.base.seed", "config.compare.only", "config.strategies.aging.final")),
        *((same, same, same) for same in ("runs/one/config.json", "config", "myconfig.data", "config.ranking.seeds")),
    ],
)
def test_placed_names_fields_where_they_stand(message: str, shared: str, of_strategy: str) -> None:
    assert (SHARED.placed(message), OF_A_STRATEGY.placed(message)) == (shared, of_strategy)


def test_in_errors_names_field_and_remedy_and_leaves_the_value() -> None:
    with pytest.raises(InputError) as raised, OF_A_STRATEGY.in_errors():
        raise InputError("config.data.dir", "config.data.dir", "or give config.final.epochs=2")
    told = "config.base.data.dir='config.data.dir': or give config.strategies.aging.final.epochs=2"
    assert str(raised.value) == told
