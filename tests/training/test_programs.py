"""Nothing is compiled but the programs that are meant to be: small ones for every new shape cost more than they do."""

import dataclasses
import logging

import jax
import numpy as np
import pytest

from experiments import default
from vlga_jax.checks import parse
from vlga_jax.fitness.evaluation import FitnessConfig
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training.features import PhaseData, PrefixFeatures
from vlga_jax.training.fit import Examples, run_epochs
from vlga_jax.training.programs import Plan, build

RNG = np.random.default_rng(0)
EXAMPLES = Examples(RNG.integers(0, 256, (300, 6, 6, 1)).astype(np.uint8), RNG.integers(0, 3, 300).astype(np.int32))
RECIPE = dataclasses.replace(parse(FitnessConfig, default.get_config().fitness.to_dict()).recipe(), epochs=1)


def network(channels: int) -> NetworkSpec:
    """Shapes that no other test has, for some channels."""
    conv = ConvSpec(channels, 3, True)
    return NetworkSpec((6, 6, 1), 3, "relu", "average", (BlockSpec(conv, PoolSpec("max", 2), conv, True, 0.0),))


def compiled(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The programs that JAX says it has compiled."""
    return {record.getMessage().split()[1] for record in caplog.records if record.getMessage().startswith("Compiling ")}


def test_training_of_another_network_compiles_nothing_between_its_programs(caplog: pytest.LogCaptureFixture) -> None:
    for channels in (37, 41):
        plan = Plan(network(channels), RECIPE, num_frozen=0, num_train=300, input_dtype="uint8", whole_epochs=False)
        programs = build(plan)
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            caplog.clear()
            state = plan.initial_state(initialise(jax.random.key(0), plan.spec))
            (end,) = run_epochs(plan, programs, state, EXAMPLES, EXAMPLES, jax.random.key(1))
        assert end.accuracy is not None
    assert compiled(caplog) == set()


def test_features_of_another_network_compile_its_blocks_only(caplog: pytest.LogCaptureFixture) -> None:
    for channels in (43, 47):
        spec = network(channels)
        variables = initialise(jax.random.key(0), spec)
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            caplog.clear()
            PrefixFeatures(PhaseData(EXAMPLES, EXAMPLES)).of(f"{channels}", None, spec, variables, 0)
    assert compiled(caplog) == {"jit(_apply_block)"}
