"""The PyTorch peer goes on where it was stopped, and counts what it should; where one of its environments is there."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.genes import GENES

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
_MADE = [str(PEERS / f".venv-{name}" / "bin" / "python") for name in ("pytorch", "optuna")]
PYTHON = next((each for each in (os.environ.get("VLGA_PEER_PYTORCH", ""), *_MADE) if Path(each).is_file()), "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="`sh benchmarks/peers/environments.sh pytorch` has not been run")

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads of tests side by side would wait for each other
PHASE = [{**GENES, "activation": "relu"}, {**GENES, "a_channels": 6, "pool_type": "max"}]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    images: dict[str, Any] = {}
    for name, count in (("train", 200), ("validation", 300)):
        labels = (np.arange(count) % 10).astype(np.int32)
        shade = random.integers(0, 120, (count, 8, 8, 3)) + 13 * labels[:, None, None, None]
        images |= {f"{name}_images": shade.astype(np.uint8), f"{name}_labels": labels}
    np.savez(tmp_path / "images.npz", **images)
    recipe = {"pool_stride": 2, "epochs": 2, "batch_size": 32, "learning_rate": 1e-2, "seed": 0}
    path = tmp_path / "job.json"
    path.write_text(
        json.dumps({"phases": [PHASE] * 3, "champions": None, "images": str(tmp_path / "images.npz"), **recipe})
    )
    return path


def command(job: Path, *flags: str) -> list[str]:
    return [PYTHON, str(PEERS / "pytorch.py"), f"--job={job}", f"--json={job.with_name('out.json')}", *flags]


def fitness(job: Path, *flags: str) -> list[float]:
    done = subprocess.run(command(job, *flags), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    individuals = json.loads(job.with_name("out.json").read_text())["individuals"]
    assert [(one["phase"], one["individual"]) for one in individuals] == [(i, j) for i in range(3) for j in range(2)]
    return [one["fitness"] for one in individuals]


def python(program: str, *arguments: Path | str, **environment: str) -> str:
    told = [PYTHON, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        told, cwd=PEERS, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


INTERRUPTED_AT_EACH = """
import json, pathlib, sys
import torch
import pytorch
job, directory = map(pathlib.Path, sys.argv[1:])
evaluate = pytorch.evaluate


def called(state, allowed):
    trained = []

    def counted(*arguments):
        if len(trained) == allowed:
            raise KeyboardInterrupt
        trained.append(1)
        return evaluate(*arguments)

    pytorch.evaluate = counted
    sys.argv = ["pytorch.py", f"--job={job}", f"--json={directory / 'out.json'}", *([f"--state={state}"] * bool(state))]
    try:
        pytorch.main()
    except KeyboardInterrupt:
        return None
    assert len(trained) == allowed or allowed > 6
    return [one["fitness"] for one in json.loads((directory / "out.json").read_text())["individuals"]]


whole = called(None, 7)
assert len(whole) == 6 and len(set(whole)) > 1
assert called(directory / "whole", 7) == whole
for stop in range(1, 6):
    assert called(directory / str(stop), stop) is None
    assert called(directory / str(stop), 6 - stop) == whole, stop
    for block in (directory / "whole").glob("block-*.pt"):
        ours, theirs = torch.load(block), torch.load(directory / str(stop) / block.name)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), block
assert called(directory / "1", 0) == whole
"""


@pytest.mark.parametrize("champions", [None, [1, 0, 1]])
def test_search_interrupted_at_any_network_goes_on_to_the_same(
    champions: list[int] | None, job: Path, tmp_path: Path
) -> None:
    job.write_text(json.dumps({**json.loads(job.read_text()), "champions": champions}))
    python(INTERRUPTED_AT_EACH, job, tmp_path)
    if champions is not None:
        assert {path.name for path in (tmp_path / "whole").iterdir()} == {
            "results.json",
            *(f"block-{phase}-{individual}.pt" for phase, individual in enumerate(champions)),
        }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_main_ended_by_a_signal_loses_at_most_the_network_in_progress(number: signal.Signals, job: Path) -> None:
    job.write_text(json.dumps({**json.loads(job.read_text()), "epochs": 40}))
    whole, results = fitness(job), job.with_name("state") / "results.json"
    job.with_name("out.json").unlink()
    process = subprocess.Popen(command(job, f"--state={results.parent}"), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not results.is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() != 0 and not job.with_name("out.json").exists()
    kept = json.loads(results.read_text())["results"]
    assert 1 <= len(kept) < 6
    assert fitness(job, f"--state={results.parent}") == whole
    assert json.loads(results.read_text())["results"][: len(kept)] == kept  # their seconds, too: they were not repeated


def test_main_of_another_job_or_variant_does_not_read_what_was_kept(job: Path, tmp_path: Path) -> None:
    state = f"--state={tmp_path / 'state'}"
    kept = fitness(job, state)
    assert fitness(job, state, "--variant=bf16") == fitness(job, "--variant=bf16")
    job.write_text(json.dumps({**json.loads(job.read_text()), "seed": 1}))
    assert fitness(job, state) == fitness(job) != kept


FILLED_UP = """
import types, torch, pytorch
rows = torch.arange(300, 310)
assert torch.equal(pytorch.filled_up(rows, "eager"), rows)
assert len(pytorch.filled_up(rows, "compile")) == 256
pytorch.DEVICE = types.SimpleNamespace(type="cuda")
for variant in ("eager", "bf16", "compile"):
    padded = pytorch.filled_up(rows, variant)
    assert len(padded) == 256 and torch.equal(padded[:10], rows) and set(padded.tolist()) == set(rows.tolist())
    assert torch.equal(pytorch.filled_up(torch.arange(256), variant), torch.arange(256))
"""


def test_filled_up_gives_whole_batches_on_a_gpu_in_every_variant() -> None:
    python(FILLED_UP)


COLLECTED = """
import gc, json, sys, time
import pytorch
counts = []

def collect():
    counts.append(gc.get_freeze_count())
    time.sleep(2.0)

pytorch.gc.collect = collect
_, job, out = sys.argv
sys.argv = ["pytorch.py", f"--job={job}", f"--json={out}"]
pytorch.main()
individuals = json.load(open(out))["individuals"]
assert len(counts) == 6 and min(counts) > 10_000, counts
assert all(one["seconds"] - one["train_seconds"] < 1.5 for one in individuals), individuals
"""


def test_collecting_rubbish_counts_for_no_network_and_leaves_imports_alone(job: Path, tmp_path: Path) -> None:
    python(COLLECTED, job, tmp_path / "out.json")


SKIP_GRADIENT = """
import json, sys, torch
from pytorch_networks import Block
genes = json.loads(sys.argv[1])
torch.manual_seed(0)
for channels in (2, 3, 7, 12, 16):
    images = torch.rand(64, channels, 32, 32).contiguous(memory_format=torch.channels_last)
    skip = Block(genes, "relu", channels, 32, 2, first=True).to(memory_format=torch.channels_last).skip
    outputs = skip(images)
    assert outputs.shape == (64, 16, 16, 16)
    gradient = torch.randn_like(outputs)
    outputs.backward(gradient)
    met = images[:, :, ::2, ::2]
    kernel, expected = skip.weight[:, :, 0, 0].double(), torch.einsum("nohw,nihw->oi", gradient.double(), met.double())
    torch.testing.assert_close(skip.weight.grad[:, :, 0, 0].double(), expected, rtol=1e-4, atol=1e-2)
    again = torch.einsum("oi,nihw->nohw", kernel, met.double()) + skip.bias.double()[:, None, None]
    torch.testing.assert_close(outputs.double(), again, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_skip_of_few_channels_has_the_gradient_that_onednn_gets_wrong(threads: str) -> None:
    genes = {**GENES, "include_pool": True, "include_skip": True, "b_channels": 16}
    python(SKIP_GRADIENT, json.dumps(genes), OMP_NUM_THREADS=threads, ONEDNN_MAX_CPU_ISA="AVX2")
