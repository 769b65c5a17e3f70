"""The environment names what decides the bits of a result, and nothing else."""

import json
from types import SimpleNamespace

import jax
import pytest

from vlga_jax.fitness import environment as environments
from vlga_jax.fitness.environment import environment
from vlga_jax.network import onednn
from vlga_jax.network.modules import LAYERS_REVISION
from vlga_jax.processor import num_threads, processor


def test_environment_of_other_features_differs() -> None:
    cached, recomputed = (
        json.loads(environment(name, "tuned", deterministic=True)) for name in ("cached", "recomputed")
    )
    assert cached == {**recomputed, "features": "cached"}
    assert cached["backend"] == jax.default_backend()
    assert cached["versions"]["jax"] == jax.__version__
    assert set(cached["versions"]) == {"jax", "jaxlib", "flax", "optax"}
    assert cached["device"] == processor(), "a CPU's device_kind says nothing"
    assert cached["threads"] == num_threads(), "bits depend on them"


def test_environment_on_a_cpu_does_not_depend_on_gpu_kernels() -> None:
    environments = [environment("cached", "tuned", deterministic=value) for value in (True, False)]
    assert environments[0] == environments[1]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("", None),
        ("--xla_gpu_autotune_level=0 --xla_dump_to=here", None),
        ("--xla_gpu_autotune_level=0 --xla_b=2  --xla_cpu_a=1", {"--xla_b": "2", "--xla_cpu_a": "1"}),
        ("--xla_cpu_a=1 --xla_cpu_a=2", {"--xla_cpu_a": "2"}),
    ],
)
def test_environment_names_the_xla_flags_that_a_cpu_heeds(
    given: str, named: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", given)
    assert json.loads(environment("cached", "tuned", deterministic=True)).get("xla_flags") == named


def test_environment_names_what_computes_tuned_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(layers: str) -> str | None:
        return json.loads(environment("cached", layers, deterministic=True)).get("onednn")

    assert named("plain") is None
    assert named("tuned") == (onednn.version() or None)
    monkeypatch.setattr(onednn, "version", lambda: "other")
    assert named("tuned") == "other"
    monkeypatch.setattr(onednn, "version", lambda: "")
    assert named("tuned") is None


def test_environment_names_the_layers_and_their_revision() -> None:
    names = [json.loads(environment("cached", name, deterministic=True))["layers"] for name in ("tuned", "plain")]
    assert names == [f"tuned-{LAYERS_REVISION}", f"plain-{LAYERS_REVISION}"]


def test_environment_of_a_gpu_names_the_libraries_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SimpleNamespace(platform_version="PJRT C API\ncuda 13000")
    device = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200", client=client)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    installed = {"nvidia-cudnn-cu13": "9.1", "NVIDIA_cublas_cu13": "2", "jax-cuda13-plugin": "0.11.2", "numpy": "2"}
    found = [SimpleNamespace(name=name, version=version) for name, version in installed.items()]
    monkeypatch.setattr(environments.metadata, "distributions", lambda: found)
    named = json.loads(environment("cached", "tuned", deterministic=True))
    assert named["platform"] == client.platform_version
    assert named["kernels"] == {"jax-cuda13-plugin": "0.11.2", "nvidia-cublas-cu13": "2", "nvidia-cudnn-cu13": "9.1"}
    assert named["deterministic"] is True and "threads" not in named and "onednn" not in named
