"""Checks of user input: every rule, and that each message is one line of field, value and remedy."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.checks import InputError, knob, output_file, parse


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = knob(at_least=0, at_most=1)
    temperature: float = knob(above=0)


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    count: int = knob(at_least=1)
    seed: int = knob(at_least=0, at_most=2**32 - 1)
    flag: bool = knob()
    kind: str = knob(one_of=("max", "average"))
    name: str = knob()
    note: str = knob(may_be_empty=True)
    channels: tuple[int, ...] = knob(at_least=1)
    kernels: tuple[int, ...] = knob(at_least=1, odd=True)
    rates: tuple[float, ...] = knob(at_least=0.0, at_most=0.9)
    flags: tuple[bool, ...] = knob()
    kinds: tuple[str, ...] = knob(one_of=("relu", "elu", "tanh"))
    tags: tuple[str, ...] = knob(may_be_empty=True)


GOOD: dict[str, Any] = {
    "count": 3,
    "seed": 7,
    "flag": False,
    "kind": "max",
    "name": "digits",
    "note": "",
    "channels": (8, 16),
    "kernels": (1, 3),
    "rates": (0.0, 0.5),
    "flags": (True, False),
    "kinds": ("relu", "elu"),
    "tags": (),
    "inner": {"rate": 0.5, "temperature": 0.1},
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Returns GOOD with one field, or one field of its inner group, set."""
    group, _, name = path.rpartition(".")
    return {**GOOD, "inner": {**GOOD["inner"], name: value}} if group else {**GOOD, name: value}


def refusal(values: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        parse(Outer, values)
    return caught.value


def test_parse_of_good_values_gives_each_of_them() -> None:
    parsed = parse(Outer, GOOD)
    assert parsed == Outer(**{**GOOD, "inner": Inner(rate=0.5, temperature=0.1)})


def test_parse_of_a_json_round_trip_is_equal() -> None:
    plain = {**GOOD, **{name: list(value) for name, value in GOOD.items() if isinstance(value, tuple)}}
    assert parse(Outer, plain) == parse(Outer, GOOD)


@pytest.mark.parametrize(
    ("path", "value", "remedy"),
    [
        ("count", "3", "a whole number"),
        ("count", 3.0, "a whole number"),
        ("count", True, "a whole number"),
        ("count", None, "a whole number"),
        ("count", 0, "at least 1"),
        ("count", -1, "at least 1"),
        ("seed", -1, "at least 0 and at most 4294967295"),
        ("seed", 2**32, "at least 0 and at most 4294967295"),
        ("flag", 0, "true or false"),
        ("flag", "false", "true or false"),
        ("kind", "min", "one of max, average"),
        ("kind", "", "one of max, average"),
        ("kind", 1, "a text"),
        ("name", "", "must not be empty"),
        ("channels", (), "must not be empty"),
        ("channels", ("",), "must not be empty"),
        ("channels", 8, "a list of values"),
        ("channels", "8,16", "a list of values"),
        ("channels", (8, 0), "at least 1"),
        ("channels", (8, 8.5), "a whole number"),
        ("channels", ("8,x",), "a whole number"),
        ("channels", (True,), "a whole number"),
        ("channels", ([8],), "a whole number"),
        ("channels", (8, 16, 8), "give each once"),
        ("kernels", (3, 4), "must be odd"),
        ("kernels", (-1,), "at least 1"),
        ("rates", (0, 0.0), "give each once"),
        ("rates", (0.95,), "at least 0 and at most 0.9"),
        ("rates", (math.nan,), "a finite number"),
        ("flags", ("maybe",), "true or false"),
        ("flags", (1,), "true or false"),
        ("flags", ("true,yes",), "give each once"),
        ("kinds", ("relu,gelu",), "one of relu, elu, tanh"),
        ("kinds", ("relu", "relu"), "give each once"),
        ("kinds", (" , ",), "must not be empty"),
        ("inner", 5, "a group of fields"),
        ("inner", None, "a group of fields"),
        ("inner.rate", 1.5, "at least 0 and at most 1"),
        ("inner.rate", -0.1, "at least 0 and at most 1"),
        ("inner.rate", math.nan, "a finite number"),
        ("inner.rate", math.inf, "a finite number"),
        ("inner.rate", False, "a number"),
        ("inner.rate", "0.5", "a number"),
        pytest.param("inner.rate", 10**400, "a finite number", id="beyond float"),
        ("inner.temperature", 0, "above 0"),
        ("inner.temperature", -math.inf, "a finite number"),
    ],
)
def test_parse_of_a_bad_value_names_field_value_and_remedy(path: str, value: Any, remedy: str) -> None:
    error = refusal(with_value(path, value))
    assert (error.field, error.value) == (f"config.{path}", value)
    assert remedy in error.remedy
    assert str(error) == f"config.{path}={value!r}: {error.remedy}"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("count", 1),
        ("seed", 2**32 - 1),
        ("kernels", (1,)),
        ("rates", (0.0, 0.9)),
        ("inner.rate", 0.0),
        ("inner.rate", 1.0),
        ("inner.temperature", 1e-300),
    ],
)
def test_parse_of_a_value_on_the_border_accepts_it(path: str, value: Any) -> None:
    parsed: Any = parse(Outer, with_value(path, value))
    for name in path.split("."):
        parsed = getattr(parsed, name)
    assert parsed == value


@pytest.mark.parametrize("path", ["nope", "inner.nope"])
def test_parse_of_an_unknown_field_lists_the_known_ones(path: str) -> None:
    error = refusal(with_value(path, 1))
    known = Inner if "." in path else Outer
    assert (error.field, error.value) == (f"config.{path}", 1)
    assert error.remedy == "unknown field; use one of " + ", ".join(f.name for f in dataclasses.fields(known))


@pytest.mark.parametrize("path", ["count", "inner", "inner.rate"])
def test_parse_of_a_missing_field_says_where_it_is_stated(path: str) -> None:
    values = {**GOOD, "inner": dict(GOOD["inner"])}
    group, _, name = path.rpartition(".")
    del (values["inner"] if group else values)[name]
    assert str(refusal(values)) == f"config.{path}=None: is missing; experiments/default.py states it"


def test_parse_of_a_whole_number_for_a_float_gives_a_float() -> None:
    parsed = parse(Outer, {**with_value("inner.rate", 1), "rates": (0, 0.5)})
    assert (type(parsed.inner.rate), type(parsed.rates[0])) == (float, float)


@pytest.mark.parametrize(
    ("path", "given", "meant"),
    [
        ("kinds", ("relu,elu",), ("relu", "elu")),
        ("kinds", ("relu, elu,",), ("relu", "elu")),
        ("kinds", ("tanh",), ("tanh",)),
        ("flags", ("true,false",), (True, False)),
        ("flags", ("No", "YES"), (False, True)),
        ("tags", ("",), ()),
        ("channels", [16, 8], (16, 8)),
    ],
)
def test_parse_of_what_a_command_line_gives_for_a_tuple_splits_it(path: str, given: Any, meant: Any) -> None:
    assert getattr(parse(Outer, with_value(path, given)), path) == meant


def test_parse_with_a_prefix_names_fields_below_it() -> None:
    with pytest.raises(InputError, match=r"^search\.rate=2\.0: "):
        parse(Inner, {"rate": 2.0, "temperature": 1.0}, "search")


def test_input_error_of_a_message_with_line_breaks_is_one_line() -> None:
    assert str(InputError("config", "a\nb", "two\n  lines\r\nhere")) == r"config='a\nb': two lines here"


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    path=st.sampled_from([name for name in GOOD if name != "inner"] + ["inner.rate", "inner.temperature"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
    ),
)
def test_parse_of_anything_is_checked_or_refused_in_one_line(path: str, value: Any) -> None:
    try:
        parsed = parse(Outer, with_value(path, value))
    except InputError as error:
        assert error.field == f"config.{path}"
        assert len(str(error).splitlines()) == 1
    else:
        assert parse(Outer, dataclasses.asdict(parsed)) == parsed


def test_output_file_may_be_new_or_there(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    assert [output_file("--json", tmp_path / name) for name in ("new", "old")] == [tmp_path / "new", tmp_path / "old"]


@pytest.mark.parametrize("name", ["", "missing/out"])
def test_output_file_that_cannot_be_one_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"^--json='{tmp_path / name}': must name a file in a directory that exists"):
        output_file("--json", tmp_path / name)


def test_output_file_where_nothing_may_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path or mode != os.W_OK)
    with pytest.raises(InputError, match="^--json='.*out': cannot be written; name another"):
        output_file("--json", tmp_path / "out")
