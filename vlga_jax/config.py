"""From the command line to the values of a configuration, and every way in which that can fail as one line.

`vlga_jax.checks.parse` checks the values. Nothing here imports JAX before it must, so that a mistake is told at once.
"""

import dataclasses
import difflib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from vlga_jax.checks import KINDS, InputError

_DETERMINISTIC_GPU = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What the user asks for.

    Attributes:
      values: of the experiment, overrides applied; nested mappings, their types and ranges not checked yet.
      workdir: the run's directory; None if none is named.
    """

    values: dict[str, Any]
    workdir: Path | None


def help_text() -> str:
    """Returns the flags with what they mean."""
    return _define_flags([]).module_help(__name__)


def read_command_line(argv: Sequence[str], default_config: Path) -> CommandLine:
    """Returns what the flags ask for.

    Args:
      argv: program name and arguments.
      default_config: the experiment that runs if none is named.

    Raises:
      InputError: a flag or a field is unknown or cannot be used, or the experiment is no Python file.
    """
    try:
        argv, path = _with_config_first(flags.FlagValues().read_flags_from_files(argv), default_config)
        experiment = _load(path)
        _require_known_fields(argv, experiment)
        flag_values = _define_flags(argv)
        rest = flag_values(argv)
    except flags.UnrecognizedFlagError as error:
        value = error.flagvalue.partition("=")[2]
        raise InputError(f"--{error.flagname}", value, "unknown flag; python main.py --help lists them") from error
    except (flags.Error, AttributeError, KeyError, SyntaxError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _explained(argv, experiment if "experiment" in locals() else {}, error) from error
    if rest[1:]:
        raise InputError("argument", rest[1], "is no flag; write --config.NAME=VALUE")
    if flag_values.workdir == "":
        raise InputError("workdir", "", "is empty; give a directory, or leave the flag out for a new one")
    return CommandLine(flag_values.config.to_dict(), Path(flag_values.workdir) if flag_values.workdir else None)
