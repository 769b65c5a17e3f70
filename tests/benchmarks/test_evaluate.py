import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.workloads import Workload, draw
from vlga_jax.checks import parse
from vlga_jax.genome.space import SpaceConfig, make_search_space

ROOT = Path(__file__).resolve().parents[2]
TINY = Workload("shallow", 2, 2, (8, 16), (1, 3), 2, 60, 20)
# The same program with a small workload in the place of a real one.
PROGRAM = f"""
import sys
from benchmarks import evaluate
from benchmarks.workloads import WORKLOADS, Workload
from benchmarks import images
images._BESIDE_CHECKOUT = images.Path("nowhere")
WORKLOADS["shallow"] = {TINY!r}
sys.exit(evaluate.main(sys.argv))
"""


def evaluate(directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(directory / "cache")}
    command = [sys.executable, "-c", PROGRAM, "--workload=shallow", f"--json={directory / 'out.json'}", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def draw_tiny(directory: Path) -> list[list[dict[str, Any]]]:
    space = make_search_space(parse(SpaceConfig, TINY.config().space.to_dict()))
    phases = draw(TINY, space, seed=0)
    (directory / "list.json").write_text(json.dumps(phases))
    return phases


def test_evaluate_writes_every_individual_and_where_the_time_went(tmp_path: Path) -> None:
    draw_tiny(tmp_path)
    fitness = []
    for flags in ((), ("--plain",)):
        done = evaluate(tmp_path, f"--chromosomes={tmp_path / 'list.json'}", *flags)
        assert done.returncode == 0, done.stderr
        result = json.loads((tmp_path / "out.json").read_text())
        places = [(individual["phase"], individual["individual"]) for individual in result["individuals"]]
        assert places == [(phase, individual) for phase in range(2) for individual in range(2)]
        assert (result["images"], result["precision"]) == ("random", "float32"), "as the other frameworks have it"
        for individual in result["individuals"]:
            assert individual["status"] == "ok"
            assert individual["seconds"] > 0
            assert individual["compile_seconds"] > 0
            assert individual["train_flops"] > 0
        parts = ("features_seconds", "waiting_seconds", "training_seconds", "other_seconds")
        assert abs(sum(result[part] for part in parts) - result["total_seconds"]) < 1e-6
        fitness.append([individual["fitness"] for individual in result["individuals"]])
    assert max(abs(a - b) for a, b in zip(*fitness, strict=True)) <= 1e-3, "tuned against plain"


def test_evaluate_of_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    phases = draw_tiny(tmp_path)
    phases[1][0]["a_kernel"] = 4
    (tmp_path / "bad.json").write_text(json.dumps(phases))
    for flags, words in (
        (["--chromosomes=missing.json"], ["--chromosomes", "missing.json"]),
        ([f"--chromosomes={tmp_path / 'bad.json'}"], ["a_kernel", "4", "(1, 3)"]),
        ([f"--chromosomes={tmp_path / 'list.json'}", "--cache=maybe"], ["cache", "maybe"]),
        ([f"--chromosomes={tmp_path / 'list.json'}", "--data_dir=missing"], ["--data_dir", "missing"]),
        ([f"--chromosomes={tmp_path / 'list.json'}", f"--json={tmp_path / 'no' / 'out.json'}"], ["--json", "no"]),
        ([f"--chromosomes={tmp_path / 'list.json'}", "more"], ["more"]),
        ([], ["chromosomes"]),
    ):
        done = evaluate(tmp_path, *flags)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert all(word in line for word in ["error:", *words]), line
