import json
from pathlib import Path

import pytest

from benchmarks.given import Given
from benchmarks.workloads import WORKLOADS, complete, draw, read_phases
from vlga_jax.checks import InputError, parse
from vlga_jax.evolution.strategy import Place
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SearchSpace, SpaceConfig, make_search_space

DEEP = WORKLOADS["deep"]


@pytest.fixture
def space() -> SearchSpace:
    return make_search_space(parse(SpaceConfig, DEEP.config().space.to_dict()))


def test_draw_makes_the_workloads_phases_within_its_space(space: SearchSpace) -> None:
    phases = draw(DEEP, space, seed=0)
    assert [len(individuals) for individuals in phases] == [4] * 8
    values = {gene["a_channels"] for individuals in phases for gene in individuals}
    assert values == {8, 16, 32}
    assert phases == draw(DEEP, space, seed=0) != draw(DEEP, space, seed=1)
    off = {(genes["a_stride"], genes["dropout_rate"]) for individuals in phases for genes in individuals}
    assert off == {(1, 0.0)}, "what the peers do not know"
    assert all("activation" in genes for genes in phases[0])
    assert not any("activation" in genes for individuals in phases[1:] for genes in individuals)


def test_draw_of_equal_blocks_makes_phases_that_differ_in_depth_only(space: SearchSpace) -> None:
    first, second, *others = draw(WORKLOADS["flat"], space, seed=0)
    assert len(others) == 6
    assert all(later == second for later in others)
    assert {gene[name] for gene in first + second for name in ("a_channels", "b_channels")} == {16}
    assert second[0] != second[1]


def test_complete_fills_in_genes_that_mean_nothing_where_they_stand(space: SearchSpace) -> None:
    genes = {"a_channels": 8, "a_kernel": 3, "a_batch_norm": True, "include_pool": False, "include_skip": False}
    first = {**genes, "activation": "elu", "b_channels": 32, "b_kernel": 5, "b_batch_norm": False, "include_b": False}
    later = {**genes, "include_b": False, "activation": "relu"}
    completed = complete([[first], [later]], space)
    assert completed[0][0]["include_b"] is True, "the first block always has b"
    assert completed[0][0]["activation"] == "elu"
    strategy = Given(space, completed)
    state = strategy.init(None)  # type: ignore[arg-type]
    (asked,) = strategy.ask(state)
    assert to_values(space, asked.chromosome)[0]["b_channels"] == 32


def test_given_a_wrong_gene_says_where_in_the_file_it_stands(space: SearchSpace) -> None:
    phases = complete(draw(DEEP, space, seed=0), space)[:2]
    phases[1][2]["a_channels"] = 9
    with pytest.raises(InputError, match=r"^--chromosomes\[1\]\[2\]\.a_channels=9: must be one of"):
        Given(space, phases)


def test_given_inherits_the_best_of_each_phase(space: SearchSpace) -> None:
    phases = complete(draw(DEEP, space, seed=0), space)[:3]
    strategy = Given(space, phases)
    key: object = None
    state = strategy.tell(key, strategy.init(key), [0.1, 0.3, 0.3, float("nan")])  # type: ignore[arg-type]
    asked = strategy.ask(state)
    assert {proposal.inherits for proposal in asked} == {Place(0, 0, 1)}
    assert all(proposal.chromosome.num_blocks == 2 for proposal in asked)
    assert (asked[2].chromosome.genes[0] == space.to_indices(phases[0][1], 0)).all()
    assert (asked[2].chromosome.genes[1] == space.to_indices(phases[1][2], 1)).all()
    for _ in range(2):
        assert not strategy.done(state)
        state = strategy.tell(key, state, [0.0] * 4)  # type: ignore[arg-type]
    assert strategy.done(state)
    assert strategy.winner(state).place == Place(2, 0, 0)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[[]]", "[1]", "[[1]]", '[[{"a_kernel": 3}], []]'])
def test_read_phases_of_something_else_is_an_input_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(InputError, match="--chromosomes"):
        read_phases(path)
    with pytest.raises(InputError, match="--chromosomes"):
        read_phases(tmp_path / "missing.json")


def test_read_phases_reads_what_json_wrote(tmp_path: Path, space: SearchSpace) -> None:
    phases = draw(DEEP, space, seed=2)
    (tmp_path / "list.json").write_text(json.dumps(phases))
    assert read_phases(tmp_path / "list.json") == phases
