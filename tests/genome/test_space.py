"""The search space: how many networks it holds, what a phase may change, and values to indices and back."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.checks import InputError, parse
from vlga_jax.genome.space import Choice, SearchSpace, SpaceConfig, make_search_space

REPORT: dict[str, Any] = {
    "activations": ("relu", "elu", "leaky_relu"),
    "channels": (8, 16, 32, 64, 128, 256, 512),
    "kernels": (1, 3, 5, 7, 9),
    "batch_norm": (True, False),
    "include_pool": (True, False),
    "pool_types": ("max", "average"),
    "include_b": (True, False),
    "include_skip": (True, False),
    "dropout_rates": (0.0,),
    "strides": (1,),
    "first_block_has_b": True,
    "pool_stride": 2,
    "min_side": 1,
    "whitening": False,
    "head_pool": "average",
}
"""The choices of the course report; the paper's differ in the activations."""
GENES = ["activation", "a_channels", "a_kernel", "a_batch_norm", "include_pool", "pool_type", "include_b"]
GENES += ["b_channels", "b_kernel", "b_batch_norm", "include_skip", "dropout_rate", "a_stride"]
INDICES = [2, 6, 1, 0, 1, 0, 1, 5, 0, 1, 0, 0, 0]
OFF = {"dropout_rate", "a_stride"}
"""Genes with a single choice."""
VALUES: dict[str, Choice] = {
    "activation": "leaky_relu",
    "a_channels": 512,
    "a_kernel": 3,
    "a_batch_norm": True,
    "include_pool": False,
    "pool_type": "max",
    "include_b": False,
    "b_channels": 256,
    "b_kernel": 1,
    "b_batch_norm": False,
    "include_skip": True,
    "dropout_rate": 0.0,
    "a_stride": 1,
}


def make_space(**changes: Any) -> SearchSpace:
    return make_search_space(parse(SpaceConfig, {**REPORT, **changes}, "config.space"))


def names(space: SearchSpace, mask: np.ndarray) -> set[str]:
    return {gene.name for gene, chosen in zip(space.genes, mask, strict=True) if chosen}


def test_make_search_space_has_the_genes_in_their_order() -> None:
    assert [gene.name for gene in make_space().genes] == GENES


def test_make_search_space_of_equal_configs_is_equal_and_hashable() -> None:
    assert {make_space(): "known"}[make_space()] == "known"
    assert make_space() != make_space(kernels=(3,))


def test_num_combinations_of_the_papers_space_is_156800() -> None:
    assert make_space(activations=("relu", "tanh", "elu", "selu")).num_combinations(0) == 156_800


def test_num_combinations_of_the_reports_space_is_117600() -> None:
    assert make_space().num_combinations(0) == 117_600


def test_num_combinations_of_a_later_phase_trades_the_activation_for_the_second_convolution() -> None:
    assert make_space().num_combinations(1) == make_space().num_combinations(7) == 117_600 // 3 * 2


def test_free_in_phase_0_is_all_but_the_second_convolution() -> None:
    space = make_space()
    assert names(space, space.free(0)) == set(GENES) - {"include_b"} - OFF


@pytest.mark.parametrize("phase", [1, 2, 9])
def test_free_in_a_later_phase_is_all_but_the_activation(phase: int) -> None:
    space = make_space()
    assert names(space, space.free(phase)) == set(GENES) - {"activation"} - OFF


@pytest.mark.parametrize("phase", [0, 1])
def test_free_of_a_gene_with_one_choice_is_false(phase: int) -> None:
    space = make_space(kernels=(3,), include_skip=(True,), include_b=(True,), activations=("elu",))
    pinned = {"a_kernel", "b_kernel", "include_skip", "include_b", "activation"}
    assert names(space, space.free(phase)) == set(GENES) - pinned - OFF
    assert space.num_combinations(phase) == 7**2 * 2**4


@pytest.mark.parametrize(
    ("gene", "field", "choices"), [("dropout_rate", "dropout_rates", (0.0, 0.5)), ("a_stride", "strides", (1, 2))]
)
def test_gene_that_is_off_with_one_choice_is_free_with_two(gene: str, field: str, choices: tuple[Any, ...]) -> None:
    off, on = make_space(), make_space(**{field: choices})
    for phase in (0, 1):
        assert names(on, on.free(phase)) == names(off, off.free(phase)) | {gene}
        assert on.num_combinations(phase) == 2 * off.num_combinations(phase)
    row = np.array(INDICES)
    row[on.place(gene)] = 1
    assert on.to_values(row, 1) == {**VALUES, gene: choices[1]}


def test_place_of_every_gene_is_where_it_stands() -> None:
    assert [make_space().place(name) for name in GENES] == list(range(len(GENES)))


def test_first_block_without_a_fixed_b_has_its_gene_like_any_other() -> None:
    fixed, free = make_space(), make_space(first_block_has_b=False)
    assert names(free, free.free(0)) == names(fixed, fixed.free(0)) | {"include_b"}
    assert names(free, free.free(1)) == names(fixed, fixed.free(1))
    assert free.num_combinations(0) == 117_600 * 2
    assert free.to_values(np.array(INDICES), 0) == VALUES, "without b"
    assert free.to_indices(VALUES, 0).tolist() == INDICES
    with pytest.raises(InputError, match=r"chromosome\.include_b=None: is missing"):
        free.to_indices({name: value for name, value in VALUES.items() if name != "include_b"}, 0)


@pytest.mark.parametrize("strides", [(0,), (1, 8), (1, 1), ()])
def test_strides_outside_their_range_are_an_input_error(strides: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^config\.space\.strides="):
        make_space(strides=strides)


def test_num_choices_of_the_reports_space_are_its_cardinalities() -> None:
    counts = make_space().num_choices
    assert counts.dtype == np.int32
    assert counts.tolist() == [3, 7, 5, 2, 2, 2, 2, 7, 5, 2, 2, 1, 1]


def test_to_values_of_a_row_worked_by_hand() -> None:
    assert make_space().to_values(np.array(INDICES), 1) == VALUES


def test_to_values_of_the_first_block_always_has_the_second_convolution() -> None:
    space = make_space()
    for index in (0, 1):
        row = np.array(INDICES)
        row[GENES.index("include_b")] = index
        assert space.to_values(row, 0) == {**VALUES, "include_b": True}


def test_to_values_of_too_few_indices_raises() -> None:
    with pytest.raises(ValueError, match="zip"):
        make_space().to_values(np.array(INDICES[:-1]), 1)


def test_to_indices_of_values_worked_by_hand() -> None:
    indices = make_space().to_indices(VALUES, 1)
    assert indices.dtype == np.int32
    assert indices.tolist() == INDICES


def test_to_indices_without_genes_that_have_no_choice_is_the_same() -> None:
    named = {name: value for name, value in VALUES.items() if name not in {"include_b", *OFF}}
    expected = [*INDICES[:6], 0, *INDICES[7:]]
    assert make_space().to_indices(named, 0).tolist() == expected


@settings(deadline=None, derandomize=True)
@given(data=st.data(), block=st.integers(0, 3))
def test_to_indices_of_to_values_is_the_row_again(data: st.DataObject, block: int) -> None:
    space = make_space(dropout_rates=(0.0, 0.25), strides=(1, 2, 4), first_block_has_b=data.draw(st.booleans()))
    row = np.array([data.draw(st.integers(0, n - 1)) for n in space.num_choices.tolist()], np.int32)
    values = space.to_values(row, block)
    back = space.to_indices(values, block)
    assert back[space.free(block)].tolist() == row[space.free(block)].tolist()
    assert space.to_values(back, block) == values


@pytest.mark.parametrize(
    ("name", "value", "block", "remedy"),
    [
        ("a_channels", 9, 0, "must be one of (8, 16, 32, 64, 128, 256, 512)"),
        ("a_channels", "8", 0, "must be one of (8, 16, 32, 64, 128, 256, 512)"),
        ("a_kernel", True, 0, "must be one of (1, 3, 5, 7, 9)"),
        ("include_pool", 1, 0, "must be one of (True, False)"),
        ("activation", "gelu", 0, "must be one of ('relu', 'elu', 'leaky_relu')"),
        ("pool_type", ["max"], 1, "must be one of ('max', 'average')"),
        ("include_b", False, 0, "must be one of (True,)"),
        ("b_padding", 3, 1, f"unknown gene; use {', '.join(sorted(GENES))}"),
    ],
)
def test_to_indices_of_a_value_outside_the_space_names_gene_value_and_choices(
    name: str, value: Any, block: int, remedy: str
) -> None:
    values: dict[str, Any] = {**VALUES, "include_b": True}
    with pytest.raises(InputError) as caught:
        make_space().to_indices({**values, name: value}, block)
    assert str(caught.value) == f"chromosome.{name}={value!r}: {remedy}"


@pytest.mark.parametrize(("name", "block"), [("a_kernel", 0), ("activation", 1), ("include_b", 1)])
def test_to_indices_without_a_gene_that_has_a_choice_says_it_is_missing(name: str, block: int) -> None:
    with pytest.raises(InputError) as caught:
        make_space().to_indices({other: value for other, value in VALUES.items() if other != name}, block)
    assert str(caught.value).startswith(f"chromosome.{name}=None: is missing; give one of (")


def test_space_config_states_the_choices_of_every_gene_once() -> None:
    fields = {field.name for field in dataclasses.fields(SpaceConfig)}
    assert fields == set(REPORT)
    assert math.prod(len(gene.choices) for gene in make_space().genes) == 117_600 * 2
