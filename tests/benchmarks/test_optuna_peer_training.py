"""The Optuna peer's training, where its environment has been made (`sh benchmarks/peers/environments.sh optuna`)."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.against_optuna import make_job
from experiments import compare_optuna
from vlga_jax.evolution.random_search import SearchConfig, draw
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import make_search_space
from vlga_jax.network.decode import decode
from vlga_jax.network.spec import count_parameters
from vlga_jax.run.comparing import parse_comparison

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
PYTHON = PEERS / ".venv-optuna" / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="`sh benchmarks/peers/environments.sh optuna` has not been run"
)

AUGMENT = """
import numpy as np, torch
from optuna_pytorch import augment
images = torch.arange(5 * 2 * 6 * 7, dtype=torch.float32).reshape(5, 2, 6, 7)
assert torch.equal(augment(images, flip=False, crop_padding=0), images)
torch.manual_seed(0)
seen = set()
for _ in range(40):
    for image, changed in zip(images, augment(images, flip=True, crop_padding=2)):
        padded = np.pad(image.numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
        crops = {(row, column): padded[:, row:row + 6, column:column + 7] for row in range(5) for column in range(5)}
        ways = {(*place, flip): crop[..., ::-1] if flip else crop for place, crop in crops.items() for flip in (0, 1)}
        found = [way for way, crop in ways.items() if np.array_equal(crop, changed.numpy())]
        assert found
        seen.add(found[0])
assert len(seen) > 40, len(seen)  # of 50, in 200 draws
"""


def test_augment_gives_every_reflected_crop_and_its_mirror_image_and_nothing_else() -> None:
    done = subprocess.run([PYTHON, "-c", AUGMENT], cwd=PEERS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SIZES = """
import json, sys, torch
from optuna_pytorch import build
job = json.load(sys.stdin)
for genes in job["networks"]:
    network = build(genes, job, torch.zeros(1, job["side"], job["side"], 3, dtype=torch.uint8))
    print(json.dumps([sum(each.numel() for each in network.parameters()), [one.out_side for one in network.block]]))
"""


@pytest.mark.parametrize(("side", "pool_stride", "min_side"), [(32, 2, 8), (30, 2, 8), (12, 2, 1), (12, 1, 8)])
def test_networks_have_the_sizes_of_ours(side: int, pool_stride: int, min_side: int) -> None:
    comparison = parse_comparison(compare_optuna.get_config().to_dict())
    space = make_search_space(comparison.run_config("vlga", 0).space)
    networks = SearchConfig(
        "random_search", population_size=1, num_generations=1, min_convolutions=2, max_convolutions=10
    )
    chromosomes = [draw(jax.random.key(seed), space, networks) for seed in range(12)]
    job = {"networks": [to_values(space, each) for each in chromosomes], "side": side}
    job |= {"pool_stride": pool_stride, "min_side": min_side}
    command: list[str | Path] = [PYTHON, "-c", SIZES]
    done = subprocess.run(command, cwd=PEERS, input=json.dumps(job), capture_output=True, text=True, check=True)
    for chromosome, line in zip(chromosomes, done.stdout.splitlines(), strict=True):
        spec = decode(
            space,
            chromosome,
            input_shape=(side, side, 3),
            num_classes=10,
            pool_stride=pool_stride,
            min_side=min_side,
            head_pool="average",
        )
        shape, sides = spec.input_shape, []
        for block in spec.blocks:
            shape = block.out_shape(shape)
            sides.append(shape[0])
        assert json.loads(line) == [count_parameters(spec), sides]


def test_search_and_final_training_learn_what_can_be_learnt(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images: dict[str, Any] = {}
    for name, count in (("train", 200), ("validation", 60), ("test", 60)):
        labels = np.arange(count, dtype=np.int32) % 2
        dark = random.integers(0, 128, (count, 12, 12, 3))
        images[f"{name}_images"] = (dark + 128 * labels[:, None, None, None]).astype(np.uint8)
        images[f"{name}_labels"] = labels
    np.savez(tmp_path / "images.npz", **images)
    comparison = parse_comparison(compare_optuna.get_config().to_dict())
    ours = [comparison.run_config(name, 0) for name in comparison.strategies]
    asked = make_job(ours, tmp_path / "images.npz", 0, 20.0)
    asked |= {"learning_rate": 1e-2, "final": {**asked["final"], "epochs": 2}}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(asked))
    command: list[str | Path] = [
        PYTHON,
        PEERS / "optuna_pytorch.py",
        f"--job={path}",
        f"--json={tmp_path / 'out.json'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    complete = [trial for trial in found["trials"] if trial["state"] == "complete"]
    assert found["best"]["fitness"] == max(trial["value"] for trial in complete) > 0.9
    assert found["test_accuracy"] > 0.9 and 1 <= found["final_epochs"] <= asked["final"]["epochs"]
    assert {trial["state"] for trial in found["trials"]} <= {"complete", "pruned", "cut"}
    assert all(trial["epochs"] == asked["epochs"] for trial in complete)
    assert 2 <= sum(1 + block["include_b"] for block in found["best"]["genes"]) <= asked["max_convolutions"]
    assert found["search_seconds"] >= asked["budget_seconds"]
