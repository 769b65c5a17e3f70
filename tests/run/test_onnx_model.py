"""A network as an ONNX model, run by ONNX Runtime: the probabilities are the network's own."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from vlga_jax.checks import InputError
from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ACTIVATIONS
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.network.whitening import patch_statistics
from vlga_jax.run.export import Predictor, export, load
from vlga_jax.run.onnx_model import onnx_model

RNG = np.random.default_rng(0)
NAMES = ("cat", "dög", "ship")
POOLS = [PoolSpec(kind, stride) for kind in ("max", "average") for stride in (1, 2)]


def network(*blocks: BlockSpec, side: int = 9, activation: str = "relu", **rest: Any) -> NetworkSpec:
    return NetworkSpec((side, side - 2, 3), len(NAMES), activation, rest.pop("head_pool", "average"), blocks, **rest)


def block(kernel: int = 3, stride: int = 1, pool: PoolSpec | None = None, norm: bool = True) -> BlockSpec:
    a, b = ConvSpec(4, kernel, norm, stride), ConvSpec(5, kernel, not norm)
    return BlockSpec(a, pool, b, skip=True, dropout_rate=0.25)


def trained(spec: NetworkSpec, images: np.ndarray) -> Predictor:
    """A network none of whose weights and statistics are what another layer might take them for."""
    variables = initialise(jax.random.key(0), spec, patch_statistics(images) if spec.whitening else None)
    variables = jax.tree.map(lambda leaf: np.float32(leaf + RNG.uniform(-0.1, 0.1, leaf.shape)), variables)
    variables = jax.tree_util.tree_map_with_path(_small_variance, variables)  # so that epsilon matters
    return Predictor(spec, variables, {"class_names": NAMES})


def _small_variance(path: Sequence[Any], leaf: np.ndarray) -> np.ndarray:
    return leaf * np.float32(0.03) if path[-1].key == "var" else leaf


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"images": images})
    return probabilities


@pytest.mark.parametrize(
    "spec",
    [
        *(network(block(), activation=activation) for activation in ACTIVATIONS),
        *(network(block(pool=pool), block(pool=pool), side=side) for pool in POOLS for side in (8, 9)),
        *(network(block(kernel, stride), side=side) for kernel in (1, 5, 9) for stride in (2, 3, 4) for side in (8, 9)),
        *(network(block(stride=2, pool=pool), side=8) for pool in POOLS),  # convolution a leaves a width that is odd
        network(
            block(norm=False),
            BlockSpec(ConvSpec(4, 3, True), None, None, True, 0.0),
            activation="tanh",
            head_pool="max",
        ),
        network(block(3, 3, POOLS[3]), block(), whitening=True),
        network(BlockSpec(ConvSpec(4, 3, True), None, None, skip=False, dropout_rate=0.0)),
        network(head_pool="max"),
        network(whitening=True),
    ],
    ids=str,
)
def test_the_probabilities_are_those_of_the_network(spec: NetworkSpec) -> None:
    images = RNG.integers(0, 256, (7, *spec.input_shape)).astype(np.uint8)
    predictor = trained(spec, images)
    expected = predictor.probabilities(images)
    assert np.ptp(expected, axis=0).max() > 1e-3, "so that images are told apart"
    model = onnx_model(spec, predictor.variables, NAMES)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    np.testing.assert_allclose(run(model, images), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(run(model, images[:1]), expected[:1], rtol=1e-4, atol=1e-6)


def test_a_run_gives_a_file_with_the_names_of_classes_and_the_same_bytes_again(tmp_path: Path) -> None:
    predictor = trained(network(block()), np.zeros(0))
    export(tmp_path / "best", predictor.spec, predictor.variables, {"class_names": NAMES})
    for name in ("one.onnx", "other.onnx"):
        load(tmp_path).to_onnx(tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()
    model = onnx.load(tmp_path / "one.onnx")
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == {"class_names": list(NAMES)}
    assert model.opset_import[0].version <= 17 and model.ir_version <= 8, "newer than runtimes of 2022 read"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "one.onnx", "other.onnx"]


@pytest.mark.parametrize("place", [("missing", "net.onnx"), ()])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, place: Sequence[str]) -> None:
    predictor = trained(network(block()), np.zeros(0))
    with pytest.raises(InputError, match="path=.*: must name a file in a directory that exists"):
        predictor.to_onnx(tmp_path.joinpath(*place))
    assert not list(tmp_path.iterdir())


def test_without_onnx_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    predictor = trained(network(block()), np.zeros(0))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="onnx.*pip install onnx"):
        predictor.to_onnx(tmp_path / "never.onnx")
    assert not list(tmp_path.iterdir())
