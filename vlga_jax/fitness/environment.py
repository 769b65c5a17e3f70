"""What the bits of a result depend on besides its request: the machine, and the software that computes on it."""

import os
import re
from importlib import metadata

import jax

from vlga_jax.fitness.evaluation import canonical_json
from vlga_jax.network import onednn
from vlga_jax.network.modules import LAYERS_REVISION
from vlga_jax.processor import num_threads, processor

_XLA_PLACES = ("--xla_dump_", "--xla_gpu_dump_", "--xla_gpu_cuda_data_dir")  # that decide no bits
_KERNEL_LIBRARIES = re.compile(r"nvidia-(cudnn|cublas)-cu\d+|jax-cuda\d+-(plugin|pjrt)")


def environment(features: str, layers: str, *, deterministic: bool) -> str:
    """Returns what the bits of a result depend on besides its request, as canonical JSON.

    Of XLA's flags those count that this backend heeds and that name no place to write to or read from. On a GPU the
    libraries of its kernels count, too.

    Args:
      features: cached or recomputed.
      layers: tuned or plain.
      deterministic: whether GPU kernels are chosen for the same bits every time; says nothing on a CPU.
    """
    device = jax.local_devices()[0]
    on_cpu = device.platform == "cpu"
    onednn_version = onednn.version() if on_cpu and layers == "tuned" else ""
    xla_flags = _xla_flags("--xla_gpu_" if on_cpu else "--xla_cpu_")
    return canonical_json(
        {
            "backend": device.platform,
            "layers": f"{layers}-{LAYERS_REVISION}",
            "device": processor() if on_cpu else device.device_kind,
            "deterministic": on_cpu or deterministic,
            "features": features,
            **({"threads": num_threads()} if on_cpu else {}),
            **({"onednn": onednn_version} if onednn_version else {}),
            **({"xla_flags": xla_flags} if xla_flags else {}),
            **({} if on_cpu else {"platform": device.client.platform_version, "kernels": _kernel_libraries()}),
            "versions": {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")},
        }
    )


def _xla_flags(unheeded: str) -> dict[str, str]:
    """Values of the XLA flags that decide bits and do not begin with `unheeded`; the last of a name counts."""
    given = dict(flag.partition("=")[::2] for flag in os.environ.get("XLA_FLAGS", "").split())
    return {name: value for name, value in given.items() if not name.startswith((unheeded, *_XLA_PLACES))}


def _kernel_libraries() -> dict[str, str]:
    """Versions of the installed packages that hold a GPU's kernels, by name; none where they are the system's own."""
    versions = {(each.name or "").lower().replace("_", "-"): each.version for each in metadata.distributions()}
    return {name: version for name, version in versions.items() if _KERNEL_LIBRARIES.fullmatch(name)}
