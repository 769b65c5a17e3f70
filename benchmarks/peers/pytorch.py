"""The benchmark's work in PyTorch, as its users would write it: eager, compiled, or with autocast to bfloat16.

    python pytorch.py --job=JOB.json --variant=eager --json=OUT.json

JOB holds what is trained on which images, OUT what each network took; README.md says how. Every individual is
trained for itself. A frozen prefix runs with every batch, in inference mode and without gradients.
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
from torch import Tensor, nn  # noqa: E402

NUM_CLASSES = 10
EVAL_BATCH_SIZE = 256
TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal cut at 2

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ACTIVATIONS = {
    "relu": lambda: nn.ReLU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
}


class Pool(nn.Module):
    """A 2x2 'same' pool, max or average: windows that reach over the lower and right edge see only what is inside."""

    def __init__(self, kind: str, stride: int, side: int):
        super().__init__()
        self.kind, self.stride = kind, stride
        four_over_inside = torch.ones(1, 1, side, side)  # of the four pixels of each window of stride 1
        four_over_inside[..., -1] *= 2
        four_over_inside[..., -1, :] *= 2
        self.register_buffer("four_over_inside", four_over_inside)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x = F.pad(x, (0, 1, 0, 1), value=-math.inf if self.kind == "max" else 0.0)
        if self.kind == "max":
            return F.max_pool2d(x, 2, self.stride, ceil_mode=True)
        x = F.avg_pool2d(x, 2, self.stride, ceil_mode=True, count_include_pad=False)
        return x * self.four_over_inside.to(x.dtype) if self.stride == 1 else x


class Block(nn.Module):
    """Convolution a, batch norm, activation, pool; convolution b, batch norm, activation; plus 1x1 of the input."""

    def __init__(self, genes: dict, activation: str, in_channels: int, side: int, pool_stride: int, *, first: bool):
        """Builds the block with fresh weights.

        Args:
          genes: name to value.
          activation: a key of `ACTIVATIONS`.
          in_channels, side: of the maps that go in; `side` in pixels. A 1x1 map is not pooled.
          pool_stride: pixels.
          first: whether this is a network's first block, which always has convolution b.
        """
        super().__init__()
        pooled = genes["include_pool"] and side > 1
        stride = pool_stride if pooled else 1
        self.out_side, self.out_channels = -(-side // stride), genes["a_channels"]
        layers = conv_unit(genes, "a", activation, in_channels)
        if pooled:
            layers.append(Pool(genes["pool_type"], stride, side))
        if first or genes["include_b"]:
            layers += conv_unit(genes, "b", activation, self.out_channels)
            self.out_channels = genes["b_channels"]
        self.main = nn.Sequential(*layers)
        self.skip = nn.Conv2d(in_channels, self.out_channels, 1, stride) if genes["include_skip"] else None
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) if self.skip is None else self.main(x) + self.skip(x)


def conv_unit(genes: dict, name: str, activation: str, in_channels: int) -> list[nn.Module]:
    """Returns the layers of convolution a or b."""
    channels, kernel, norm = (genes[f"{name}_{gene}"] for gene in ("channels", "kernel", "batch_norm"))
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=not norm)
    norms = [nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)] if norm else []
    return [conv, *norms, ACTIVATIONS[activation]()]


def initialise(module: nn.Module) -> None:
    """Fills kernels with a truncated normal of variance 1 / fan-in, biases with 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        std = math.sqrt(1 / module.weight[0].numel()) / TRUNCATED_STDDEV
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Network(nn.Module):
    """A frozen prefix, the block that learns, and the head."""

    def __init__(self, prefix: list[Block], block: Block):
        super().__init__()
        self.prefix = nn.Sequential(*prefix).requires_grad_(False)
        self.block = block
        self.head = nn.Linear(block.out_channels, NUM_CLASSES)
        initialise(self.head)

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        self.prefix.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.prefix(images)
        return self.head(self.block(x).mean((2, 3)))


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


@torch.no_grad()
def accuracy(network: Network, data: Data, variant: str) -> tuple[float, Clock]:
    """Returns the share of right answers and the time of each batch; a compiled network's last batch is filled up."""
    network.eval()
    clock = Clock()
    correct = torch.zeros((), dtype=torch.int64, device=DEVICE)
    for rows in torch.arange(len(data.labels), device=DEVICE).split(EVAL_BATCH_SIZE):
        padded = rows
        if variant == "compile" and len(rows) < EVAL_BATCH_SIZE:  # another shape would be compiled anew
            padded = rows[torch.arange(EVAL_BATCH_SIZE, device=DEVICE) % len(rows)]
        images, labels = data.batch(padded)
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


def search(job: dict, train: Data, validation: Data, variant: str) -> list[dict]:
    """Returns what each individual took, phase by phase; a phase's champion is inherited by the next."""
    _, side, _, in_channels = train.images.shape
    prefix: list[Block] = []
    activation, results = "", []
    for phase, individuals in enumerate(job["phases"]):
        named = job["champions"][phase] if job.get("champions") else None
        best, champion, champion_activation = -math.inf, None, activation
        for individual, genes in enumerate(individuals):
            started = time.perf_counter()
            random = np.random.default_rng((job["seed"], phase, individual))
            torch.manual_seed(random.integers(2**32).item())
            own_activation = activation or genes["activation"]
            block = Block(genes, own_activation, in_channels, side, job["pool_stride"], first=phase == 0)
            network = Network(prefix, block)
            result = evaluate(network, train, validation, job, variant, random)
            if individual == named or (named is None and result["fitness"] > best):
                best, champion, champion_activation = result["fitness"], block, own_activation
            del network, block
            if variant == "compile":
                torch._dynamo.reset()
            gc.collect()
            result["seconds"] = time.perf_counter() - started
            results.append({"phase": phase, "individual": individual, **result})
        assert champion is not None, f"champions names no individual of phase {phase}"
        prefix.append(champion)
        activation, in_channels, side = champion_activation, champion.out_channels, champion.out_side
    return results


def main() -> None:
    """Does the job and writes what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="file to read")
    parser.add_argument("--variant", choices=("eager", "compile", "bf16"), default="eager")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    job = json.loads(arguments.job.read_text())
    torch.backends.cudnn.benchmark = True
    with np.load(job["images"]) as images, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as kernels:
        # Inductor keeps kernels from run to run; unless the caller names the place, a run starts without.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", kernels)
        train = Data(images["train_images"], images["train_labels"])
        validation = Data(images["validation_images"], images["validation_labels"])
        individuals = search(job, train, validation, arguments.variant)
    result = {
        "peer": f"pytorch {arguments.variant}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "individuals": individuals,
        "total_seconds": time.perf_counter() - _STARTED,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if DEVICE.type == "cuda":
        result["device_peak_bytes"] = torch.cuda.max_memory_allocated()
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
