"""From the command line to a checked `RunConfig`, and every way in which that can fail as one line."""

import difflib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from vlga_jax.checks import InputError, parse
from vlga_jax.run.pipeline import RunConfig

_DETERMINISTIC_GPU = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_autotune_level=0")


def define_flags(default_config: Path) -> None:
    """Defines `--config` and `--workdir`.

    Args:
      default_config: the experiment that runs if none is named.
    """
    config_flags.DEFINE_config_file(
        "config",
        str(default_config),
        "Experiment file; --config.search.population_size=20 overrides one of its fields.",
    )
    flags.DEFINE_string("workdir", None, "Directory of the run; an interrupted run in it is continued. [runs/TIME]")


def parse_command_line(argv: Sequence[str]) -> RunConfig:
    """Returns the checked configuration that the flags ask for.

    Args:
      argv: program name and arguments.

    Raises:
      InputError: a flag or a field is unknown or cannot be used, or the experiment is no Python file.
    """
    _check_config_file(argv)
    try:
        rest = flags.FLAGS(list(argv))
        config = flags.FLAGS.config
    except flags.Error as error:
        raise _from_absl(argv, error) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _from_override(argv, error) from error
    if rest[1:]:
        raise InputError("argument", rest[1], "is no flag; write --config.NAME=VALUE")
    return parse(RunConfig, config.to_dict())


def configure_backend(config: RunConfig) -> None:
    """Sets what must be set before JAX first touches a device: deterministic GPU kernels and the compilation cache."""
    import jax

    if config.fitness.deterministic:
        wanted = [flag for flag in _DETERMINISTIC_GPU if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", "")]
        os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *wanted]).strip()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache_home / "vlga_jax" / "xla"))
        jax.config.update("jax_compilation_cache_max_size", 4 * 1024**3)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _check_config_file(argv: Sequence[str]) -> None:
    """Executes the experiment file once by itself, since absl hides what is wrong with it in a long traceback."""
    for argument in argv[1:]:
        name, equals, value = argument.lstrip("-").partition("=")
        if name != "config":
            continue
        path = Path(value)
        if not equals or not path.is_file():
            raise InputError("config", value, "no such file; give an experiment, as in --config=experiments/digits.py")
        try:
            spec = importlib.util.spec_from_file_location("experiment", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            config = module.get_config()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError("config", value, f"is no experiment in Python with get_config() ({reason})") from error
        if not isinstance(config, ml_collections.ConfigDict):
            raise InputError("config", value, "get_config() must return an ml_collections.ConfigDict")


def _overrides(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    for argument in argv[1:]:
        name, _, value = argument.lstrip("-").partition("=")
        if name.startswith("config."):
            yield name, value


def _from_absl(argv: Sequence[str], error: flags.Error) -> InputError:
    text = " ".join(str(error).split())
    if isinstance(error, flags.UnrecognizedFlagError):
        return InputError(f"--{error.flagname}", error.flagvalue, "unknown flag; python main.py --help lists them")
    for name, value in _overrides(argv):
        if f"--{name}=" in text or name in text:
            reason = text.split(": ", 1)[-1]
            return InputError(name, value, f"cannot be used: {reason}; give a value of the field's type")
    return InputError("command line", text, "python main.py --help lists the flags")


def _from_override(argv: Sequence[str], error: Exception) -> InputError:
    """Finds the override whose field does not exist; absl's message does not name it in full."""
    known = _field_names(argv)
    for name, value in _overrides(argv):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else "experiments/default.py lists the fields"
            return InputError(name, value, f"unknown field; {hint}")
    return InputError("command line", " ".join(argv[1:]), " ".join(str(error).split()))


def _field_names(argv: Sequence[str]) -> list[str]:
    spec = importlib.util.find_spec("experiments.default")
    assert spec is not None, "experiments/ lies beside main.py"
    from experiments import default

    def names(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in values.items():
            if isinstance(value, Mapping):
                yield from names(value, f"{prefix}{name}.")
            yield f"{prefix}{name}"

    return list(names(default.get_config().to_dict(), "config."))
