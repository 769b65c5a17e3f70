"""The house's order: imports run one way, the inner wings stay pure, files stay short. Sources are parsed, not run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "vlga_jax"
WINGS = (
    "checks",
    "shapes",
    "keys",
    "processor",
    "user_cache",
    "disk",
    "genome",
    "evolution",
    "network",
    "training",
    "fitness",
    "run",
    "backend",
    "config",
    "compare",
    "ranking",
)
"""A wing imports itself, those before it and `__version__`; `vlga_jax/__init__.py` imports any."""
OUTSIDE = ("main", "experiments", "benchmarks", "tests")
"""What stands on the package, so that the package never imports it."""
FORBIDDEN = {
    "genome": {"flax", "optax"},
    "evolution": {"flax", "optax", "os", "pathlib", "time", "random", "datetime"},
}
MAX_LINES = 300


def modules() -> list[Path]:
    return sorted((ROOT / PACKAGE).rglob("*.py"))


def module_name(path: Path) -> tuple[str, ...]:
    """Returns the dotted parts of a file's module, `__init__` included."""
    return path.relative_to(ROOT).with_suffix("").parts


def imported_names(source: str, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yields the line and absolute dotted name of everything a module imports, at any depth of its source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            package = module[: -node.level] if node.level else ()
            base = ".".join((*package, *((node.module,) if node.module else ())))
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def backward_arrows(source: str, module: tuple[str, ...]) -> list[str]:
    """Returns one line for each import of a module that runs against the order of WINGS."""
    where = ".".join(module)
    wing = module[1]
    if wing == "__init__":
        return [f"{where}:{n} imports {name}" for n, name in imported_names(source, module) if is_outside(name)]
    if wing not in WINGS:
        return [f"{where} belongs to no wing: name its place in WINGS and in README's table of modules"]
    found = []
    for line, name in imported_names(source, module):
        parts = name.split(".")
        if is_outside(name):
            found.append(f"{where}:{line} imports {name}, which stands on the package")
        elif parts[0] == PACKAGE and name != f"{PACKAGE}.__version__":
            target = parts[1] if len(parts) > 1 else "__init__"
            if target not in WINGS or WINGS.index(target) > WINGS.index(wing):
                found.append(f"{where}:{line} imports {name}, but {wing} stands before it")
    return found


def is_outside(name: str) -> bool:
    return name.split(".")[0] in OUTSIDE


def forbidden_imports(source: str, module: tuple[str, ...]) -> list[str]:
    """Returns one line for each import that FORBIDDEN denies the module's wing."""
    denied = FORBIDDEN.get(module[1], set())
    where = ".".join(module)
    imports = imported_names(source, module)
    return [f"{where}:{line} imports {name}" for line, name in imports if name.split(".")[0] in denied]


def test_modules_of_the_package_are_found() -> None:
    assert {path.parent.name for path in modules()} >= {PACKAGE, "genome", "evolution", "network"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(path.relative_to(ROOT).parts))
def test_module_imports_only_earlier_wings(path: Path) -> None:
    source, module = path.read_text(encoding="utf-8"), module_name(path)
    assert backward_arrows(source, module) + forbidden_imports(source, module) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: "/".join(path.relative_to(ROOT).parts))
def test_module_stays_under_the_length_limit(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vlga_jax.genome.space", "import vlga_jax.evolution.vlga"),
        ("vlga_jax.genome.space", "from vlga_jax.network.spec import BlockSpec"),
        ("vlga_jax.genome.space", "from vlga_jax import run"),
        ("vlga_jax.genome.space", "from .. import network"),
        ("vlga_jax.genome.space", "from ..network import spec"),
        ("vlga_jax.genome.__init__", "from ..network import spec"),
        ("vlga_jax.fitness.executors.local", "from ...run import search"),
        ("vlga_jax.fitness.executors.local", "def late():\n    import vlga_jax.run.search"),
        ("vlga_jax.evolution.vlga", "if TYPE_CHECKING:\n    from vlga_jax.fitness import ledger"),
        ("vlga_jax.training.fit", "import importlib\nimportlib.import_module('vlga_jax.run.search')"),
        ("vlga_jax.run.search", "from vlga_jax.config import Config"),
        ("vlga_jax.run.search", "from vlga_jax import load"),
        ("vlga_jax.run.search", "import vlga_jax"),
        ("vlga_jax.run.search", "from experiments import default"),
        ("vlga_jax.checks", "from . import keys"),
        ("vlga_jax.checks", "from .genome import space"),
        ("vlga_jax.helpers", "import math"),
        ("vlga_jax.__init__", "import main"),
    ],
)
def test_backward_arrows_of_a_violation_name_it(module: str, source: str) -> None:
    (finding,) = backward_arrows(source, tuple(module.split(".")))
    assert module in finding


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vlga_jax.genome.space", "import jax\nfrom vlga_jax.checks import knob"),
        ("vlga_jax.genome.__init__", "from . import space"),
        ("vlga_jax.network.decode", "from ..genome.space import Gene\nfrom .spec import BlockSpec"),
        ("vlga_jax.fitness.executors.local", "from .. import evaluation\nfrom vlga_jax import training"),
        ("vlga_jax.fitness.executors.local", "from . import ray"),
        ("vlga_jax.run.search", "import vlga_jax.fitness.ledger\nfrom vlga_jax import __version__"),
        ("vlga_jax.config", "from vlga_jax.run.search import SearchConfig"),
        ("vlga_jax.__init__", "from vlga_jax.run.export import load\nfrom .config import Config"),
    ],
)
def test_backward_arrows_of_a_forward_import_are_none(module: str, source: str) -> None:
    assert backward_arrows(source, tuple(module.split("."))) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vlga_jax.genome.space", "import flax.linen as nn"),
        ("vlga_jax.evolution.vlga", "from optax import adam"),
        ("vlga_jax.evolution.vlga", "import random"),
        ("vlga_jax.evolution.vlga", "def late():\n    from time import monotonic"),
        ("vlga_jax.evolution.vlga", "import os.path"),
    ],
)
def test_forbidden_imports_of_a_violation_name_it(module: str, source: str) -> None:
    (finding,) = forbidden_imports(source, tuple(module.split(".")))
    assert module in finding


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vlga_jax.evolution.vlga", "import jax\nfrom jax import random"),
        ("vlga_jax.network.modules", "import flax.linen as nn"),
        ("vlga_jax.run.search", "import os, time"),
    ],
)
def test_forbidden_imports_of_an_allowed_import_are_none(module: str, source: str) -> None:
    assert forbidden_imports(source, tuple(module.split("."))) == []
