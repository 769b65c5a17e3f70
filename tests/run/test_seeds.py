"""What a search's fields are called where several searches run."""

import pytest

from vlga_jax.checks import InputError
from vlga_jax.run.seeds import Names, SeedsConfig

OF_RANKING = Names("ranking")
OF_A_STRATEGY = Names("compare", "aging", {"final": {"epochs": 3}, "search": {"strategy": "aging"}})


@pytest.mark.parametrize(
    ("text", "in_a_ranking", "in_a_comparison"),
    [
        ("--config.final.epochs=9", "--config.base.final.epochs=9", "--config.strategies.aging.final.epochs=9"),
        ("config.final.init=scratch", "config.base.final.init=scratch", "config.base.final.init=scratch"),
        ("(config.search.winner)", "(config.base.search.winner)", "(config.strategies.aging.search.winner)"),
        ("config.budget.seconds", "config.base.budget.seconds", "config.compare.budget_seconds"),
        ("config.seed; or", "config.ranking.first_seed; or", "config.compare.first_seed; or"),
        ("choices of config.space;", "choices of config.base.space;", "choices of config.base.space;"),
        *((same, same, same) for same in ("config.base.seed", "config.compare.only", "config.strategies.aging.final")),
        *((same, same, same) for same in ("runs/config.json", "config", "/a/config.data/b", "jax.config.data")),
    ],
)
def test_placed_names_fields_where_they_stand(text: str, in_a_ranking: str, in_a_comparison: str) -> None:
    assert (OF_RANKING.placed(text), OF_A_STRATEGY.placed(text)) == (in_a_ranking, in_a_comparison)


def test_a_search_that_all_strategies_share_stands_in_base() -> None:
    assert Names("compare", "small", {"space": {}}).placed("config.search.winner") == "config.base.search.winner"


def test_in_errors_names_field_and_remedy_and_leaves_the_value() -> None:
    with pytest.raises(InputError) as raised, OF_A_STRATEGY.in_errors():
        raise InputError("config.data.dir", "config.data.dir", "or give config.final.epochs=2")
    told = "config.base.data.dir='config.data.dir': or give config.strategies.aging.final.epochs=2"
    assert str(raised.value) == told


@pytest.mark.parametrize("field", ["workdir", "config.base.data", "config.compare.only", "config.ranking.num_seeds"])
def test_in_errors_leaves_the_programs_own_fields(field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}=1: "), OF_A_STRATEGY.in_errors():
        raise InputError(field, 1, "no")


def test_in_errors_of_a_group_that_no_search_has_names_base() -> None:
    with pytest.raises(InputError, match=r"^config\.base\.typo=1: "), OF_A_STRATEGY.in_errors():
        raise InputError("config.typo", 1, "unknown field")


def test_require_room_blames_the_number_of_seeds() -> None:
    SeedsConfig(num_seeds=2, first_seed=2**32 - 2).require_room("compare")
    told = r"^config\.ranking\.num_seeds=3: from first_seed=4294967294 on there are 2; give at most that$"
    with pytest.raises(InputError, match=told):
        SeedsConfig(num_seeds=3, first_seed=2**32 - 2).require_room("ranking")
