"""What a user would pick instead of this project: Optuna over the same networks, each trained in PyTorch, eager.

    python optuna_pytorch.py --job=JOB.json --json=OUT.json

JOB holds the space, the images and the budget, OUT what was tried and found; README.md says how.

Sampler: `TPESampler(multivariate=True, group=True)`. Multivariate, because genes act together (Falkner et al. 2018,
BOHB; Optuna's default for one objective since 5.0). Group, because most genes exist only where others let them: without
it, all but those of every trial would be drawn one by one. Optuna calls `group` experimental; that warning is hidden.
Pruner: `MedianPruner()`, Optuna's own choice: once five trials are complete, a trial ends if its best accuracy so far
is below the median of theirs at the same epoch. Its last epoch is not judged: nothing would be saved, its value lost.
"""

import time

_STARTED = time.perf_counter()

import argparse  # noqa: E402  (imports count, so the clock starts before them)
import copy  # noqa: E402
import dataclasses  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import optuna  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from optuna_job import JobError, best_epoch, has_ended, load_images, rate_factor, read_job, suggest_genes  # noqa: E402
from pytorch import DEVICE, Block, Data, Network, accuracy, epoch_rows, synchronize  # noqa: E402
from torch import Tensor, nn  # noqa: E402

_CUT = "cut"  # user attribute of a trial that the budget ended
_TRIAL, _FINAL = 0, 1  # what random numbers are for


class Blocks(nn.Sequential):
    """The blocks of a network that learns as a whole."""

    @property
    def out_channels(self) -> int:
        return self[-1].out_channels


@dataclasses.dataclass(frozen=True)
class Found:
    """A network that a trial has trained; `fitness` is its validation accuracy after the last epoch."""

    genes: list[dict]
    network: Network
    fitness: float


def build(genes: list[dict], job: dict, images: Tensor) -> Network:
    """Returns the network of genes for images `[n, side, side, channels]`, with fresh weights, on the device."""
    _, side, _, channels = images.shape
    blocks: list[Block] = []
    for own in genes:
        pools = {"pool_stride": job["pool_stride"], "min_side": job["min_side"]}
        blocks.append(Block(own, genes[0]["activation"], channels, side, **pools, first=not blocks))
        side, channels = blocks[-1].out_side, blocks[-1].out_channels
    return Network([], Blocks(*blocks)).to(DEVICE, memory_format=torch.channels_last)


def random_of(*place: int) -> np.random.Generator:
    """Returns the random numbers of a place and seeds PyTorch's by them."""
    random = np.random.default_rng(place)
    torch.manual_seed(random.integers(2**32).item())
    return random


def train_epoch(
    network: Network,
    optimizer: torch.optim.Optimizer,
    train: Data,
    batch_size: int,
    random: np.random.Generator,
    *,
    label_smoothing: float = 0.0,
    change: Callable[[Tensor], Tensor] | None = None,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> None:
    """Trains a network for one epoch; `change` is done to a step's images first, `schedule` goes by steps."""
    network.train()
    for rows in epoch_rows(len(train.labels), batch_size, random):
        images, labels = train.batch(rows)
        logits = network(change(images) if change else images)
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing).backward()
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            schedule.step()


def augment(images: Tensor, *, flip: bool, crop_padding: int) -> Tensor:
    """Returns the images, each mirrored left to right by chance and cropped at random from its reflected border.

    Args:
      images: `[batch, channels, height, width]`.
      flip: whether to mirror, with chance 1/2 each.
      crop_padding: pixels, less than height and width; the shift lies in [-crop_padding, crop_padding] each way.
    """
    batch, _, height, width = images.shape
    shifts = torch.randint(-crop_padding, crop_padding + 1, (2, batch, 1), device=images.device)
    rows, columns = (
        (size - 1) - ((size - 1) - (torch.arange(size, device=images.device) + shift).abs()).abs()
        for size, shift in zip((height, width), shifts, strict=True)
    )
    if flip:
        mirrored = torch.rand(batch, 1, device=images.device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    each = torch.arange(batch, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def evaluate(trial: optuna.Trial, job: dict, train: Data, validation: Data, deadline: float) -> Found | None:
    """Returns the trained network of a trial; None if the pruner ended it.

    Raises:
      optuna.TrialPruned: the deadline ended it.
    """
    genes = suggest_genes(trial, job)
    random = random_of(job["seed"], _TRIAL, trial.number)
    network = build(genes, job, train.images)
    optimizer = torch.optim.Adam(network.parameters(), lr=job["learning_rate"], fused=True)

    def cut_if_late(*_) -> None:
        if time.perf_counter() > deadline:
            trial.set_user_attr(_CUT, True)
            trial.study.stop()
            raise optuna.TrialPruned

    hook = network.register_forward_pre_hook(cut_if_late)  # before each step, and each batch that is evaluated
    for epoch in range(job["epochs"]):
        train_epoch(network, optimizer, train, job["batch_size"], random)
        fitness, _ = accuracy(network, validation, "eager")
        cut_if_late()
        trial.report(fitness, epoch)
        if epoch + 1 < job["epochs"] and trial.should_prune():
            return None
    hook.remove()
    return Found(genes, network, fitness)


def make_study(seed: int) -> optuna.Study:
    """Returns a study without trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.MedianPruner())


def search(job: dict, train: Data, validation: Data) -> tuple[Found, list[dict]]:
    """Returns the best network that the budget found, the first among equals, and what every trial was.

    Raises:
      JobError: no trial was complete before the budget's end.
    """
    best: Found | None = None
    trials: list[dict] = []
    deadline = _STARTED + job["budget_seconds"]

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        found = evaluate(trial, job, train, validation, deadline)
        if found is None:
            raise optuna.TrialPruned  # from here: a traceback through `evaluate` would keep its network alive
        if best is None or found.fitness > best.fitness:
            best = found
        return found.fitness

    def note(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        state = _CUT if trial.user_attrs.get(_CUT) else trial.state.name.lower()
        if state in (_CUT, "fail"):
            gc.collect()  # their tracebacks hold networks, in cycles
        trials.append(
            {
                "number": trial.number,
                "state": state,
                "value": trial.value,
                "seconds": trial.duration.total_seconds(),
                "epochs": len(trial.intermediate_values),
                "at_seconds": time.perf_counter() - _STARTED,
            }
        )

    make_study(job["seed"]).optimize(
        objective,
        timeout=deadline - time.perf_counter(),
        catch=(torch.OutOfMemoryError,),  # of a GPU; that trial has failed, the next goes on
        callbacks=[note],
    )
    synchronize()
    if best is None:
        raise JobError("budget_seconds", job["budget_seconds"], "no trial was complete by then; give more")
    return best, trials


def train_to_convergence(network: Network, job: dict, train: Data, validation: Data, random) -> int:
    """Trains a network as this project trains its winner; returns the number of epochs, leaves the best one's weights.

    The order of a step is AdamW's: decay, of kernels only, times the scheduled rate, beside Adam's update.
    """
    final = job["final"]
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim == 1]  # biases, batch norm
    groups = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=final["learning_rate"], weight_decay=final["weight_decay"], fused=True)
    per_epoch = -(-len(train.labels) // min(final["batch_size"], len(train.labels)))
    num_steps = final["epochs"] * per_epoch
    num_warmup = min(round(final["warmup_epochs"] * per_epoch), num_steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(step, num_steps=num_steps, num_warmup=num_warmup)
    )
    colour = train.images.shape[-1] == 3
    change = (
        (lambda images: augment(images, flip=final["flip"], crop_padding=final["crop_padding"])) if colour else None
    )
    accuracies: list[float] = []
    for epoch in range(final["epochs"]):
        recipe = {"label_smoothing": final["label_smoothing"], "change": change, "schedule": schedule}
        train_epoch(network, optimizer, train, final["batch_size"], random, **recipe)
        accuracies.append(accuracy(network, validation, "eager")[0])
        if best_epoch(accuracies) == epoch:
            weights = copy.deepcopy(network.state_dict())
        if has_ended(accuracies, final["patience"]):
            break
    network.load_state_dict(weights)
    return len(accuracies)


def run(job: dict, images: dict[str, np.ndarray]) -> dict:
    """Returns what OUT holds."""
    train, validation, test = (
        Data(images[f"{n}_images"], images[f"{n}_labels"]) for n in ("train", "validation", "test")
    )
    best, trials = search(job, train, validation)
    search_seconds = time.perf_counter() - _STARTED
    random = random_of(job["seed"], _FINAL)
    scratch = job["final"]["init"] == "scratch"
    network = build(best.genes, job, train.images) if scratch else best.network
    final_epochs = train_to_convergence(network, job, train, validation, random)
    test_accuracy, _ = accuracy(network, test, "eager")
    states = [trial["state"] for trial in trials]
    result = {
        "peer": "optuna",
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (optuna, torch, np)},
        },
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "total_seconds": time.perf_counter() - _STARTED,
        "search_seconds": search_seconds,
        "num_complete": states.count("complete"),
        "num_pruned": states.count("pruned"),
        "best": {
            "genes": best.genes,
            "fitness": best.fitness,
            "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        },
        "final_epochs": final_epochs,
        "test_accuracy": test_accuracy,
        "trials": trials,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if DEVICE.type == "cuda":
        result["device_peak_bytes"] = torch.cuda.max_memory_allocated()
    return result


def main() -> None:
    """Does the job and writes what was tried and found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="file to read")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if not arguments.json.parent.is_dir():
            raise JobError("--json", str(arguments.json), "its directory does not exist")
        job = read_job(arguments.job)
        result = run(job, load_images(job))
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
