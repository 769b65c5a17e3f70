"""Checks of user input: a typed, range-checked view of a configuration.

Every wing declares what it accepts as a frozen dataclass whose fields are `knob`s; `parse` builds it from a plain
mapping and raises `InputError`, one line that names the field, the value and the remedy, on the first thing wrong.
"""

import dataclasses
import math
import os
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
"""What a value of a type is called in a message."""


class InputError(ValueError):
    """Something the user gave that cannot be used: `field`, its `value`, and what to do instead.

    The message is one line, fit to be printed without a traceback.
    """

    def __init__(self, field: str, value: object, remedy: str):
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(" ".join(f"{field}={value!r}: {remedy}".split()))


def output_file(field: str, value: str | Path) -> Path:
    """Returns the path of a file that is to be written.

    Args:
      field: what names it in a message.
      value: its path.

    Raises:
      InputError: it is a directory, or lies in none, or cannot be written.
    """
    path = Path(value)
    directory = path.absolute().parent
    if path.is_dir() or not directory.is_dir():
        raise InputError(field, str(value), "must name a file in a directory that exists")
    if not os.access(path if path.exists() else directory, os.W_OK):
        raise InputError(field, str(value), "cannot be written; name another")
    return path


def knob(
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    one_of: tuple[str, ...] | None = None,
    odd: bool = False,
    may_be_empty: bool = False,
) -> Any:
    """Returns a dataclass field that `parse` checks; bounds hold for a number and for each element of a tuple.

    Args:
      at_least: smallest value allowed.
      at_most: largest value allowed.
      above: value that must be exceeded.
      one_of: the only strings allowed.
      odd: whether integers must be odd.
      may_be_empty: whether an empty tuple or string is allowed.
    """
    return dataclasses.field(
        metadata={
            "at_least": at_least,
            "at_most": at_most,
            "above": above,
            "one_of": one_of,
            "odd": odd,
            "may_be_empty": may_be_empty,
        }
    )


def parse[T](
    cls: type[T], values: Mapping[str, Any], prefix: str = "config", *, groups: Mapping[str, type] | None = None
) -> T:
    """Returns an instance of the dataclass `cls` whose every field was checked.

    Args:
      cls: a frozen dataclass; nested dataclasses are parsed from nested mappings, tuples may be given as lists.
      values: field names to values.
      prefix: what stands before a field's name in a message.
      groups: dataclasses of fields whose annotation leaves it open.

    Raises:
      InputError: a field is unknown, missing, of the wrong type or out of its range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise InputError(f"{prefix}.{name}", values[name], f"unknown field; use one of {', '.join(fields)}")
    hints = {**typing.get_type_hints(cls), **(groups or {})}
    parsed = {}
    for name, field in fields.items():
        path = f"{prefix}.{name}"
        if name not in values:
            raise InputError(path, None, "is missing; experiments/default.py states it")
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(values[name], Mapping):
                raise InputError(path, values[name], "must be a group of fields; experiments/default.py lists them")
            parsed[name] = parse(hints[name], values[name], path)
        else:
            parsed[name] = _checked(path, values[name], hints[name], field.metadata)
    return cls(**parsed)


def _checked(path: str, value: Any, hint: Any, rules: Mapping[str, Any]) -> Any:
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, (tuple, list)):
            raise InputError(path, value, "must be a list of values, as in 8,16")
        kind = typing.get_args(hint)[0]
        words = [word for item in value for word in _words(item, kind)]
        if not words and not rules.get("may_be_empty"):
            raise InputError(path, value, "must not be empty; give at least one value")
        items = tuple(_checked_scalar(path, word, kind, rules, value) for word in words)
        if len(set(items)) != len(items):
            raise InputError(path, value, "repeats a value; give each once")
        return items
    return _checked_scalar(path, value, hint, rules, value)


def _words(item: Any, kind: type) -> list[Any]:
    """Splits what a command line gives for a tuple of texts or booleans: one text, as in "relu,elu"."""
    if not isinstance(item, str):
        return [item]
    words = [word.strip() for word in item.split(",") if word.strip()]
    if kind is not bool:
        return list(words)
    return [{"true": True, "false": False, "yes": True, "no": False}.get(word.lower(), word) for word in words]


def _checked_scalar(path: str, value: Any, kind: Any, rules: Mapping[str, Any], shown: Any) -> Any:
    if kind is float and type(value) is int:
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) is not kind:
        raise InputError(path, shown, f"must be {KINDS[kind]}, not {type(value).__name__}")
    if kind is str:
        if rules.get("one_of") is not None and value not in rules["one_of"]:
            raise InputError(path, shown, f"must be one of {', '.join(rules['one_of'])}")
        if rules.get("one_of") is None and not value and not rules.get("may_be_empty"):
            raise InputError(path, shown, "must not be empty")
        return value
    if kind is float and not math.isfinite(value):
        raise InputError(path, shown, "must be a finite number")
    if rules.get("at_least") is not None and value < rules["at_least"]:
        raise InputError(path, shown, _range_remedy(rules))
    if rules.get("above") is not None and value <= rules["above"]:
        raise InputError(path, shown, _range_remedy(rules))
    if rules.get("at_most") is not None and value > rules["at_most"]:
        raise InputError(path, shown, _range_remedy(rules))
    if rules.get("odd") and value % 2 == 0:
        raise InputError(path, shown, "must be odd, so that a convolution has a centre; use 1, 3, 5, ...")
    return value


def _range_remedy(rules: Mapping[str, Any]) -> str:
    bounds = [("at_least", "at least"), ("above", "above"), ("at_most", "at most")]
    return "must be " + " and ".join(
        f"{words} {_plain(rules[rule])}" for rule, words in bounds if rules[rule] is not None
    )


def _plain(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
