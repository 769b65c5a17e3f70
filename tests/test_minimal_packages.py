"""A run where nothing but JAX, Flax, Optax, Orbax, NumPy, absl and ml_collections, and what they need, is installed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]
MISSING = (
    *("tensorflow_datasets", "tensorflow", "array_record", "PIL", "sklearn", "pandas", "importlib_resources"),
    *("wandb", "matplotlib", "chex", "jaxtyping", "beartype", "filelock", "onnx"),
)
PROGRAM = """
import sys
for name in {missing}:
    sys.modules[name] = None  # so that importing it fails
from main import main
sys.exit(main(["main.py", *{arguments}]))
"""


def test_run_without_optional_packages(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
    data = tmp_path / "digits-npz"
    data.mkdir()
    (data / "classes.json").write_text(json.dumps(list("0123456789")))
    for split, rows in (("train", slice(0, 120)), ("test", slice(120, 160))):
        np.savez(data / f"{split}-00000.npz", images=images[rows], labels=labels[rows].astype(np.int32))
    arguments = [
        *("--config=experiments/digits.py", f"--workdir={tmp_path / 'run'}"),
        *("--config.data.name=npz", f"--config.data.dir={data}", f"--config.data.cache_dir={tmp_path / 'cache'}"),
        *("--config.search.num_phases=1", "--config.search.num_generations=2", "--config.search.population_size=2"),
        *("--config.space.channels=8,", "--config.space.kernels=1,", "--config.final.epochs=1"),
    ]
    program = PROGRAM.format(missing=repr(MISSING), arguments=repr(arguments))
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["num_individuals"] == 4
    assert "no figures are drawn: matplotlib is not installed" in ran.stdout + ran.stderr


def test_headline_is_imported_without_optional_packages() -> None:
    imports = "import benchmarks.given, benchmarks.stopwatch\nfrom benchmarks.headline.__main__ import main"
    program = PROGRAM.replace("from main import main", imports)
    program = program.format(missing=repr(MISSING), arguments=repr(["--help"]))
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "--minutes" in ran.stdout
