"""From the command line to the values of a configuration, and every way in which that can fail as one line.

`vlga_jax.checks.parse` checks the values. JAX is not imported before it is needed, so that a mistake is told at once.
"""

import contextlib
import dataclasses
import datetime
import difflib
import gc
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from vlga_jax.checks import KINDS, InputError
from vlga_jax.processor import may_have_gpu, processor
from vlga_jax.user_cache import trim, user_cache

if TYPE_CHECKING:
    import vlga_jax.run.laboratory  # imports JAX

# Whatever the environment says: results, and the types of compiled programs, depend on these.
_PINNED = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_default_matmul_precision": None,
}
_CACHED_PROGRAM_BYTES = 4 * 1024**3  # of one kind of processor
# Of Python's lock, in seconds: how long whoever trains, records or writes waits for a thread that traces a program.
_SWITCH_INTERVAL = 0.0005
_HELP = ("--help", "-h", "-help", "--helpfull", "--helpshort")
# Dense layers by cuBLAS: an epoch compiles in seven tenths of the time, and of its own Triton products XLA knows no
# default where kernels are deterministic and nothing is tried out (`benchmarks/gpu_programs.py`).
_GPU = ("--xla_gpu_enable_triton_gemm=false",)
# XLA then takes the first algorithm of cuDNN's that gives the same bits every time, and tries none out. Autotuning must
# not be off besides: that leaves convolutions to cuDNN's fallback, hundreds of times slower (docs/performance/gpu.md).
_DETERMINISTIC_GPU = ("--xla_gpu_deterministic_ops=true",)
# Nor are two ways to emit a fusion compiled to choose one: for a GPU that is absent XLA leaves that out by itself where
# kernels are deterministic, for one that is there it is told so. XLA ends the process over a flag that it does not
# know, so this one, an experimental one, is given only to versions that were looked at.
_NO_FUSION_AUTOTUNER = "--xla_gpu_experimental_enable_fusion_autotuner=false"
_HAVE_FUSION_AUTOTUNER = ("0.11.2", "0.12.0.1")  # jaxlib


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
    return 0


@contextlib.contextmanager
def imports_kept() -> Iterator[None]:
    """Spares Python's collector the 150,000 objects that importing JAX makes and that stay.

    It does not run within, and never looks later at what was made within. Does nothing where JAX is imported already:
    what there is then may become garbage.
    """
    if "jax" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


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


def configure_backend(config: "vlga_jax.run.laboratory.RunConfig", *, keep_memory: bool = True) -> None:
    """Sets what must be set before JAX first touches a device: its random numbers, kernels and compilation cache.

    Also how soon threads give way to each other.

    Args:
      config: of the run.
      keep_memory: whether freed memory is kept for the next step, see `vlga_jax.training.memory`. Where there is a GPU
        it is not: steps do not need it there, and compile threads would wait for each other.
    """
    import jax

    from vlga_jax.training.memory import keep_freed_memory

    sys.setswitchinterval(_SWITCH_INTERVAL)
    if keep_memory and not may_have_gpu():
        keep_freed_memory()
    given = os.environ.get("XLA_FLAGS", "")
    wanted = [*_GPU, *(_deterministic_gpu() if config.fitness.deterministic else ())]
    os.environ["XLA_FLAGS"] = " ".join([given, *(flag for flag in wanted if flag.split("=")[0] not in given)]).strip()
    # Of a GPU's memory; JAX would leave a quarter to others, and a phase's features may need it.
    if "XLA_CLIENT_MEM_FRACTION" not in os.environ:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # By processor: JAX's cache does not tell them apart, and a home directory may be shared by unlike machines.
        programs = user_cache() / "xla" / processor()
        trim(programs, _CACHED_PROGRAM_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(programs))
    if config.fitness.deterministic:
        # There XLA would look up which algorithms other searches, whose kernels need not be deterministic, found fast.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    for name, value in _PINNED.items():
        jax.config.update(name, value)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _deterministic_gpu() -> Iterator[str]:
    yield from _DETERMINISTIC_GPU
    if metadata.version("jaxlib") in _HAVE_FUSION_AUTOTUNER:
        yield _NO_FUSION_AUTOTUNER


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
