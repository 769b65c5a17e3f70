"""From the command line to the values of a configuration, and every way in which that can fail as one line.

`vlga_jax.checks.parse` checks the values. JAX is not imported before it is needed, so that a mistake is told at once.
"""

import dataclasses
import datetime
import difflib
import importlib.util
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from vlga_jax.backend import imports_kept
from vlga_jax.checks import KINDS, InputError
from vlga_jax.disk import no_space_left

_HELP = ("--help", "-h", "-help", "--helpfull", "--helpshort")


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What the user asks for.

    Attributes:
      values: of the experiment's fields, overrides applied; nested mappings, types and ranges not checked yet.
      workdir: the run's directory; None if none is named.
    """

    values: dict[str, Any]
    workdir: Path | None


def run_program(
    argv: Sequence[str],
    about: str | None,
    default_experiment: Path,
    prepare: Callable[[dict[str, Any]], Callable[[Path], Any]],
    *,
    prefix: str = "",
) -> int:
    """Returns a program's exit code: 0, 2 after one line that says what was wrong with the input, 130 if interrupted.

    Args:
      argv: program name and arguments.
      about: what --help says before the flags.
      default_experiment: the file that runs if none is named.
      prepare: checks the values of an experiment and returns what runs in a directory.
      prefix: of a new directory's name below runs/.
    """
    if any(argument in _HELP for argument in argv[1:]):
        print(about)
        print(help_text(default_experiment))
        return 0
    workdir = made = None
    try:
        command_line = read_command_line(argv, default_experiment)
        with imports_kept():
            run = prepare(command_line.values)
        started = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        workdir = command_line.workdir or Path("runs") / f"{prefix}{started}"
        made = workdir if command_line.workdir is None else None
        print(f"workdir: {workdir}", flush=True)
        run(workdir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        if made is not None:
            _remove_unless_used(made)
        return 2
    except KeyboardInterrupt:
        goes_on = "" if workdir is None else f"; to continue, repeat the command with --workdir={workdir}"
        print(f"interrupted{goes_on}", file=sys.stderr)
        return 130
    except Exception as error:
        if workdir is None or not no_space_left(error):
            raise
        goes_on = f"free some, then repeat the command with --workdir={workdir}: it goes on"
        remedy = f"no space is left ({str(error)[:200]}); {goes_on}"
        print(f"error: {InputError('workdir', str(workdir), remedy)}", file=sys.stderr)
        return 2
    return 0


def _remove_unless_used(workdir: Path) -> None:
    """Removes the directory of a run that failed before it wrote more than its lock."""
    if workdir.is_dir() and {path.name for path in workdir.iterdir()} == {".lock"}:
        (workdir / ".lock").unlink()
        workdir.rmdir()  # which removes nothing that anybody wrote meanwhile


def help_text(default_experiment: Path) -> str:
    """Returns the flags with what they mean."""
    return _program_flags(default_experiment).module_help(__name__)


def read_command_line(argv: Sequence[str], default_experiment: Path) -> CommandLine:
    """Returns what the flags ask for; overrides may stand before or after `--config`.

    Args:
      argv: program name and arguments.
      default_experiment: the file that runs if none is named.

    Raises:
      InputError: a flag or a field is unknown or cannot be used, or the experiment is no Python file.
    """
    program_flags = _program_flags(default_experiment)
    try:
        rest = program_flags(list(argv), known_only=True)
    except flags.Error as error:
        raise _unusable(argv, error) from error
    if program_flags.workdir == "":
        raise InputError("--workdir", "", "must not be empty; leave the flag out for a new directory under runs/")
    values = _overridden(_load(program_flags.config), rest).to_dict()
    return CommandLine(values, Path(program_flags.workdir) if program_flags.workdir else None)


def _program_flags(default_experiment: Path) -> flags.FlagValues:
    """Makes the flags that are no fields of an experiment; each call its own, so that no call sees another's."""
    values = flags.FlagValues()
    about = "Experiment file; --config.search.population_size=20 overrides one of its fields."
    flags.DEFINE_string("config", str(default_experiment), about, flag_values=values)
    about = "Directory of the run; an interrupted run in it is continued. [runs/TIME]"
    flags.DEFINE_string("workdir", None, about, flag_values=values)
    return values


def _load(file: str) -> ConfigDict:
    """Executes an experiment file."""
    path = Path(file)
    if not path.is_file():
        raise InputError("--config", file, "no such file; give an experiment, as in --config=experiments/digits.py")
    if path.suffix != ".py":
        raise InputError("--config", file, "is no Python file; its name must end in .py")
    try:
        spec = importlib.util.spec_from_file_location("experiment", path)
        assert spec is not None and spec.loader is not None, "a name in .py has a loader"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError("--config", file, f"is no experiment in Python with get_config() ({reason})") from error
    if not isinstance(config, ConfigDict):
        raise InputError("--config", file, "get_config() must return an ml_collections.ConfigDict")
    return config


def _overridden(experiment: ConfigDict, argv: Sequence[str]) -> ConfigDict:
    """Returns the experiment with its fields as the arguments say."""
    fields = dict(_fields(experiment))
    named = [name for name, _ in _overrides(argv)]
    for name, value in _overrides(argv):
        if isinstance(fields.get(name), tuple) and named.count(name) > 1:  # they would be joined
            raise InputError(name, value, "is given twice; give all its values once")
        if name not in fields:
            known = ".".join(name.split(".")[:2]) in fields
            alike = [field for field in fields if field.split(".")[-1] == name.split(".")[-1]]
            cutoff = 0.5 if known or alike else 0.8
            close = difflib.get_close_matches(name, alike or fields, n=1, cutoff=cutoff)
            hint = f"did you mean {close[0]}?" if close else "experiments/default.py lists the fields"
            if not known and not close:
                hint = f"the experiment has {', '.join(sorted(experiment))}"
            raise InputError(name, value, f"unknown field; {hint}")
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", experiment, flag_values=values, sys_argv=list(argv))
        positional = values(list(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        name, _, value = error.flagvalue.partition("=")
        raise InputError(name, value, "unknown flag; python main.py --help lists them") from error
    except (flags.Error, AttributeError, KeyError, SyntaxError, TypeError, ValueError) as error:
        raise _explained(error, fields, argv) from error
    if positional:
        raise InputError("argument", positional[0], "is no flag; write --config.NAME=VALUE")
    return values.config


def _explained(error: Exception, fields: Mapping[str, Any], argv: Sequence[str]) -> InputError:
    """Finds the override that absl's message is about, and says what its field takes."""
    for name, value in _overrides(argv):
        if re.search(rf"--?(no)?{re.escape(name)}(?![\w.])", str(error)):
            return InputError(name, value, _remedy(name, fields[name]))
    return _unusable(argv, error)


def _unusable(argv: Sequence[str], error: Exception) -> InputError:
    if missing := re.search(r"Missing value for flag (\S+)", str(error)):
        return InputError(missing[1], "", f"needs a value, as in {missing[1]}=VALUE")
    return InputError("command line", " ".join(argv[1:]), f"{error}; python main.py --help lists the flags")


def _remedy(name: str, value: Any) -> str:
    if isinstance(value, ConfigDict):
        first = next(iter(value), "FIELD")
        return f"is a group of fields; override them one by one, as in --{name}.{first}=VALUE"
    if isinstance(value, tuple):
        return "must be a list of values, as in 8,16 or relu,elu"
    return f"must be {KINDS[type(value)]}" if type(value) in KINDS else "cannot be overridden; edit the experiment file"


def _overrides(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the full names of overridden fields and the values given."""
    for argument, following in itertools.pairwise([*argv[1:], ""]):
        if match := re.match(r"--?(?:no)?(config\.[^=]*)(=?)(.*)", argument, re.DOTALL):
            name, equals, value = match.groups()
            yield name, value if equals or following.startswith("-") else following


def _fields(values: ConfigDict, prefix: str = "config") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield f"{prefix}.{name}", value
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{prefix}.{name}")
