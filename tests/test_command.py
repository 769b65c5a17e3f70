"""The command itself, in a process of its own: what it prints, and that neither help nor bad input waits for JAX."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_command_help_names_the_flags_and_does_not_wait_for_jax(flag: str) -> None:
    done = run_python("-X", "importtime", "main.py", flag)
    assert done.returncode == 0
    assert "--config" in done.stdout and "--workdir" in done.stdout
    assert "main.py --config=experiments/digits.py" in done.stdout
    assert "vlga_jax.config" in done.stderr and "jaxlib" not in done.stderr


def test_command_of_a_bad_override_does_not_wait_for_jax(tmp_path: Path) -> None:
    done = run_python("-X", "importtime", "main.py", "--config.seed=abc", f"--workdir={tmp_path}/run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "error: config.seed='abc': must be a whole number"
    assert "jaxlib" not in done.stderr


def test_command_of_a_value_out_of_range_prints_nothing_but_the_line(tmp_path: Path) -> None:
    done = run_python("main.py", "--config.search.mutation_rate=1.5", f"--workdir={tmp_path}/run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: config.search.mutation_rate=1.5: must be at least 0 and at most 1\n"
    assert list(tmp_path.iterdir()) == []
