"""The benchmark's work in PyTorch, as its users would write it: eager, compiled, or with autocast to bfloat16.

    python pytorch.py --job=JOB.json --variant=eager --json=OUT.json [--state=DIR]

JOB holds what is trained on which images, OUT what each network took; README.md says how. Every individual is
trained for itself. A frozen prefix runs with every batch, in inference mode and without gradients. With DIR the same
command goes on after the last network that was complete.
"""

import time

_STARTED = time.perf_counter()

import argparse  # noqa: E402  (imports count, so the clock starts before them)
import gc  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from pytorch_networks import Block, Network  # noqa: E402
from pytorch_state import Kept  # noqa: E402
from torch import Tensor  # noqa: E402

EVAL_BATCH_SIZE = 256

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Data:
    """Examples in memory, on the device: images uint8 [n, height, width, channels], labels int64 [n]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images = torch.from_numpy(images).to(DEVICE)
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(DEVICE)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns images as float32 [batch, channels, height, width] in [0, 1], channels last in memory; labels."""
        return self.images[rows].permute(0, 3, 1, 2).to(torch.float32).div_(255), self.labels[rows]


class Clock:
    """Seconds of each step, the first with the device's work; on a GPU later ones are those of the dispatch."""

    def __init__(self):
        self.steps: list[float] = []
        self._last = time.perf_counter()

    def tick(self) -> None:
        if not self.steps:
            synchronize()
        now = time.perf_counter()
        self.steps.append(now - self._last)
        self._last = now

    def first_step_excess(self) -> float:
        """Returns by how much the first step took longer than the median of the others."""
        return max(self.steps[0] - statistics.median(self.steps[1:] or [0.0]), 0.0)


def synchronize() -> None:
    """Waits for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def epoch_rows(num_examples: int, batch_size: int, random: np.random.Generator) -> Tensor:
    """Returns the rows of each step of an epoch, `[steps, batch]`, on the device; the first fill up the last batch."""
    batch_size = min(batch_size, num_examples)
    num_steps = -(-num_examples // batch_size)
    order = np.resize(random.permutation(num_examples), (num_steps, batch_size))
    return torch.from_numpy(order).to(DEVICE)


def fit(network: Network, train: Data, job: dict, variant: str, random: np.random.Generator) -> Clock:
    """Trains the network's block and head; returns the time of each step."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=job["learning_rate"], fused=True)
    network.train()
    clock = Clock()
    for _ in range(job["epochs"]):
        for rows in epoch_rows(len(train.labels), job["batch_size"], random):
            images, labels = train.batch(rows)
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=variant == "bf16"):
                loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            clock.tick()
    return clock


def filled_up(rows: Tensor, variant: str) -> Tensor:
    """Returns the rows, the first repeated up to a whole batch where another shape costs: a compilation, a search."""
    costs = variant == "compile" or DEVICE.type == "cuda"  # for each shape cuDNN tries its algorithms anew
    if not costs or len(rows) == EVAL_BATCH_SIZE:
        return rows
    return rows[torch.arange(EVAL_BATCH_SIZE, device=rows.device) % len(rows)]


@torch.no_grad()
def accuracy(network: Network, data: Data, variant: str) -> tuple[float, Clock]:
    """Returns the share of right answers and the time of each batch."""
    network.eval()
    clock = Clock()
    correct = torch.zeros((), dtype=torch.int64, device=DEVICE)
    for rows in torch.arange(len(data.labels), device=DEVICE).split(EVAL_BATCH_SIZE):
        images, labels = data.batch(filled_up(rows, variant))
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=variant == "bf16"):
            logits = network(images)
        correct += (logits.argmax(1) == labels)[: len(rows)].sum()
        clock.tick()
    return correct.item() / len(data.labels), clock


def evaluate(network: Network, train: Data, validation: Data, job: dict, variant: str, random) -> dict[str, float]:
    """Trains a network; returns its validation accuracy and what it took, compilation counted apart.

    Compilation is by how much the first training step and the first evaluation took longer than the median ones.
    """
    started = time.perf_counter()
    network.to(DEVICE, memory_format=torch.channels_last)
    if variant == "compile":
        network.compile()
    steps = fit(network, train, job, variant, random)
    fitness, batches = accuracy(network, validation, variant)
    compile_seconds = 0.0
    if variant == "compile":
        compile_seconds = steps.first_step_excess() + batches.first_step_excess()
    return {
        "fitness": fitness,
        "train_seconds": time.perf_counter() - started - compile_seconds,
        "compile_seconds": compile_seconds,
    }


def search(job: dict, train: Data, validation: Data, variant: str, kept: Kept) -> list[dict]:
    """Returns what each individual took, phase by phase; a phase's champion is inherited by the next.

    What `kept` has is not done again, and changes nothing: every network draws from random numbers of its own.
    """
    _, side, _, in_channels = train.images.shape
    prefix: list[Block] = []
    activation = ""
    for phase, individuals in enumerate(job["phases"]):
        named = job["champions"][phase] if job.get("champions") else None
        best, champion, champion_activation = -math.inf, None, activation
        for individual, genes in enumerate(individuals):
            started = time.perf_counter()
            random = np.random.default_rng((job["seed"], phase, individual))
            torch.manual_seed(random.integers(2**32).item())
            own_activation = activation or genes["activation"]
            block = Block(genes, own_activation, in_channels, side, job["pool_stride"], first=phase == 0)
            known = kept.find(phase, individual)
            result = known or {"phase": phase, "individual": individual}
            if known is None:
                result |= evaluate(Network(prefix, block), train, validation, job, variant, random)
            inherited = individual == named or (named is None and result["fitness"] > best)
            if inherited:
                best, champion, champion_activation = result["fitness"], block, own_activation
            if known is None:
                if variant == "compile":
                    torch._dynamo.reset()
                result["seconds"] = time.perf_counter() - started
                kept.add(result, block if inherited else None)
            elif inherited:
                kept.load(result, block)
            del block
            gc.collect()
        assert champion is not None, f"champions names no individual of phase {phase}"
        prefix.append(champion)
        activation, in_channels, side = champion_activation, champion.out_channels, champion.out_side
    return kept.results


def main() -> None:
    """Does the job and writes what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="file to read")
    parser.add_argument("--variant", choices=("eager", "compile", "bf16"), default="eager")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--state", type=Path, help="directory of what is done so far; the next process goes on with it")
    arguments = parser.parse_args()
    gc.freeze()  # what was imported is no rubbish: without, each `gc.collect` would look through it
    job = json.loads(arguments.job.read_text())
    about = {
        "peer": f"pytorch {arguments.variant}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
    }
    asked = {**about, "job": {**job, "images": None}}  # they may lie elsewhere
    torch.backends.cudnn.benchmark = True
    with np.load(job["images"]) as images, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as kernels:
        # Inductor keeps kernels from run to run; unless the caller names the place, a run starts without.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", kernels)
        train = Data(images["train_images"], images["train_labels"])
        validation = Data(images["validation_images"], images["validation_labels"])
        individuals = search(job, train, validation, arguments.variant, Kept(arguments.state, asked))
    result = {
        **about,
        "individuals": individuals,
        "total_seconds": time.perf_counter() - _STARTED,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if DEVICE.type == "cuda":
        result["device_peak_bytes"] = torch.cuda.max_memory_allocated()
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
