"""What is installed: the requirement lists agree with each other and with the imports; make installs the right one."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LISTS = ("requirements.txt", "requirements-cpu.txt", "requirements-dev.txt")
OURS = {"vlga_jax", "main", "experiments", "benchmarks", "tests"}
MAKE = shutil.which("make")
needs_make = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def lines(name: str) -> list[str]:
    """Returns the lines of a requirements file that name a package."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def distributions(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def is_bounded(requirement: str) -> bool:
    """Returns whether a requirement has exactly one lower bound, included, and one upper bound, excluded."""
    return sorted(specifier.operator for specifier in Requirement(requirement).specifier) == ["<", ">="]


def third_party(source: str) -> set[str]:
    """Returns the top-level names a source imports that are neither Python's nor ours."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - OURS - set(sys.stdlib_module_names)


def undeclared(names: set[str], declared: set[str]) -> set[str]:
    """Returns the imported names that no declared distribution provides."""
    providers = metadata.packages_distributions()
    return {name for name in names if not declared & {canonicalize_name(d) for d in providers.get(name, [name])}}


def sources(*places: str) -> Iterator[str]:
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield file.read_text(encoding="utf-8")


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_requirements_cpu_differs_only_in_jax() -> None:
    gpu, cpu = lines("requirements.txt"), lines("requirements-cpu.txt")
    ((with_cuda, without),) = [pair for pair in zip(gpu, cpu, strict=True) if pair[0] != pair[1]]
    assert Requirement(without).name == "jax"
    assert with_cuda == without.replace("jax", "jax[cuda12]", 1)


def test_requirements_dev_repeats_no_runtime_requirement() -> None:
    assert distributions(lines("requirements-dev.txt")) & distributions(lines("requirements.txt")) == set()


@pytest.mark.parametrize("requirement", [line for name in LISTS for line in lines(name)])
def test_requirement_is_bounded_and_names_no_url(requirement: str) -> None:
    assert is_bounded(requirement)
    assert Requirement(requirement).url is None


@pytest.mark.parametrize("requirement", ["jax", "jax>=0.11.2", "jax<0.13", "jax==0.12", "jax>=0.11,<=0.12"])
def test_is_bounded_without_both_bounds_is_false(requirement: str) -> None:
    assert not is_bounded(requirement)


def test_imports_of_the_program_are_declared() -> None:
    optional = [line for extra in pyproject()["project"]["optional-dependencies"].values() for line in extra]
    imported = set().union(*map(third_party, sources("vlga_jax", "main.py", "experiments")))
    assert undeclared(imported, distributions(lines("requirements.txt") + optional)) == set()


def test_imports_of_the_tests_are_declared() -> None:
    imported = set().union(*map(third_party, sources("tests")))
    assert undeclared(imported, distributions(lines("requirements.txt") + lines("requirements-dev.txt"))) == set()


def test_undeclared_of_a_strange_import_names_it() -> None:
    source = "import os\nimport PIL.Image\nfrom . import sibling\ndef late():\n    from torch.nn import Linear"
    assert third_party(source) == {"PIL", "torch"}
    assert undeclared(third_party(source), {"pillow"}) == {"torch"}
    assert undeclared(third_party(source), {"torch"}) == {"PIL"}


def test_pyproject_states_nothing_a_second_time() -> None:
    config = pyproject()
    assert config["tool"]["setuptools"]["dynamic"] == {
        "dependencies": {"file": ["requirements-cpu.txt"]},
        "version": {"attr": "vlga_jax.__version__"},
    }
    assert set(config["project"]["dynamic"]) == {"dependencies", "version"}
    assert config["project"]["requires-python"] == f">={(ROOT / '.python-version').read_text().strip()}"


def test_ci_calls_exactly_make_test(tmp_path: Path) -> None:
    (tmp_path / "make").write_text('#!/bin/sh\necho "$PWD: $*"\n')
    (tmp_path / "make").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "run"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ROOT}: test\n"


# ---- The Makefile, in a directory of its own, with a PATH of stubs. ----

Make = Callable[..., subprocess.CompletedProcess[str]]
TOOLS = ("sh", "cat", "cksum", "cp", "mkdir", "rm")
# A Python of our making: the real one, changed by a prelude before it runs what `-c` gives it.
PATCHED = f"#!/bin/sh\nexec '{sys.executable}' -c 'import sys; %s; exec(sys.argv[2])' \"$@\"\n"
TOO_OLD = PATCHED % 'sys.version_info = (3, 11, 2, "final", 0)'
WITHOUT_VENV = PATCHED % 'sys.modules["ensurepip"] = None'
BROKEN = "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n"
# A Python whose environments are made of itself, and whose pip only writes down what it is asked for.
INSTALLER = f"""#!/bin/sh
case "$*" in
  *"-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"-m pip install"*) echo "$*" >> pip.log; test ! -e pip-fails ;;
  *) exec '{sys.executable}' "$@" ;;
esac
"""


@pytest.fixture
def stub(tmp_path: Path) -> Callable[[str, str], Path]:
    """Returns the function that puts an executable of a name and a text on the stubs' PATH."""
    (tmp_path / "bin").mkdir()

    def put(name: str, text: str) -> Path:
        path = tmp_path / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    return put


@pytest.fixture
def make(tmp_path: Path, stub: Callable) -> Make:
    """Returns the function that runs make on targets, among the stubs and a copy of the lists."""
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    for name in ("Makefile", *LISTS):
        shutil.copy(ROOT / name, tmp_path)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(tmp_path / "bin")}
        return subprocess.run([str(MAKE), *args], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def installs(tmp_path: Path) -> list[str]:
    return re.findall(r"-r (requirements(?:-cpu)?\.txt)", (tmp_path / "pip.log").read_text())


@needs_make
@pytest.mark.parametrize("target", ["test", "digits", "check", "print-python"])
def test_make_without_any_python_says_so_and_exits_2(make: Make, target: str) -> None:
    done = make(target)
    assert done.returncode == 2
    assert "needs Python 3.12 or newer" in done.stderr
    assert "Found: none on PATH" in done.stderr


@needs_make
@pytest.mark.parametrize(
    ("text", "reason"), [(TOO_OLD, "is 3.11"), (WITHOUT_VENV, "has no venv module"), (BROKEN, "does not run")]
)
def test_make_with_an_unfit_python_names_it_and_the_reason(make: Make, stub: Callable, text: str, reason: str) -> None:
    path = stub("python3", text)
    done = make("test")
    assert done.returncode == 2
    assert f"Found: {path} ({reason})." in done.stderr
    assert "Traceback" not in done.stderr


@needs_make
@pytest.mark.parametrize("text", [TOO_OLD, WITHOUT_VENV, BROKEN])
@pytest.mark.parametrize("fit", ["python3.13", "python3.12", "python3.14", "python"])
def test_make_after_an_unfit_python_takes_the_next(make: Make, stub: Callable, text: str, fit: str) -> None:
    stub("python3", text)
    path = stub(fit, INSTALLER)
    assert make("print-python").stdout.split() == [str(path)]


@needs_make
def test_make_of_two_fit_pythons_takes_python3(make: Make, stub: Callable) -> None:
    stub("python", INSTALLER)
    path = stub("python3", INSTALLER)
    assert make("print-python").stdout.split() == [str(path)]


@needs_make
def test_make_with_python_given_takes_no_other(make: Make, stub: Callable, tmp_path: Path) -> None:
    stub("python3", INSTALLER)
    (tmp_path / "elsewhere").mkdir()
    fit, unfit = stub("../elsewhere/fit", INSTALLER), stub("../elsewhere/unfit", TOO_OLD)
    assert make("print-python", f"PYTHON={fit}").stdout.split() == [str(fit)]
    done = make("environment", f"PYTHON={unfit}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Found: {unfit} (is 3.11)." in done.stderr


@needs_make
@pytest.mark.parametrize(
    ("nvidia_smi", "expected"),
    [(None, "requirements-cpu.txt"), ("exit 9", "requirements-cpu.txt"), ("exit 0", "requirements.txt")],
)
def test_make_installs_cuda_only_where_a_driver_answers(
    make: Make, stub: Callable, tmp_path: Path, nvidia_smi: str | None, expected: str
) -> None:
    stub("python3", INSTALLER)
    if nvidia_smi:
        stub("nvidia-smi", f"#!/bin/sh\n{nvidia_smi}\n")
    assert make("print-requirements").stdout.split() == [expected]
    assert make("environment").returncode == 0
    assert installs(tmp_path) == [expected]
    assert "-r requirements-dev.txt" in (tmp_path / "pip.log").read_text()


@needs_make
def test_make_environment_again_installs_only_what_changed(make: Make, stub: Callable, tmp_path: Path) -> None:
    python = stub("python3", INSTALLER)
    for args in [(), (), (f"PYTHON={python}",)]:
        assert make("environment", *args).returncode == 0
    assert installs(tmp_path) == ["requirements-cpu.txt"]
    stub("nvidia-smi", "#!/bin/sh\nexit 0\n")
    make("environment")
    assert installs(tmp_path) == ["requirements-cpu.txt", "requirements.txt"]
    with (tmp_path / "requirements-dev.txt").open("a") as file:
        file.write("another>=1,<2\n")
    make("environment")
    assert installs(tmp_path) == ["requirements-cpu.txt", "requirements.txt", "requirements.txt"]


@needs_make
def test_make_environment_after_a_failed_install_installs_again(make: Make, stub: Callable, tmp_path: Path) -> None:
    stub("python3", INSTALLER)
    (tmp_path / "pip-fails").touch()
    done = make("environment")
    assert done.returncode == 2
    assert "pip could not install requirements-cpu.txt with Python 3." in done.stderr
    (tmp_path / "pip-fails").unlink()
    assert make("environment").returncode == 0
    assert len(installs(tmp_path)) == 2


@needs_make
def test_make_environment_without_a_newer_pip_installs_with_the_one_there_is(
    make: Make, stub: Callable, tmp_path: Path
) -> None:
    offline = '*"--upgrade pip"*) exit 1 ;;'
    stub("python3", INSTALLER.replace('case "$*" in', f'case "$*" in\n  {offline}'))
    done = make("environment")
    assert done.returncode == 0 and "No newer pip could be had" in done.stderr
    assert installs(tmp_path) == ["requirements-cpu.txt"]


@needs_make
def test_make_clean_removes_only_the_environment(make: Make, stub: Callable, tmp_path: Path) -> None:
    stub("python3", INSTALLER)
    make("environment")
    before = set(tmp_path.rglob("*"))
    assert make("clean").returncode == 0
    assert before - set(tmp_path.rglob("*")) == {path for path in before if ".venv" in path.parts}
