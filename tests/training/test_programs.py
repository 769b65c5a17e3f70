"""Nothing is compiled but the programs that are meant to be: small ones for every new shape cost more than they do."""

import collections
import contextlib
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
from vlga_jax.training import features
from vlga_jax.training.examples import Examples
from vlga_jax.training.features import PhaseData, PrefixFeatures
from vlga_jax.training.fit import run_epochs
from vlga_jax.training.program_cache import ProgramCache
from vlga_jax.training.programs import Plan, Programs, build

RNG = np.random.default_rng(0)
EXAMPLES = Examples(RNG.integers(0, 256, (300, 6, 6, 1)).astype(np.uint8), RNG.integers(0, 3, 300).astype(np.int32))
RECIPE = dataclasses.replace(parse(FitnessConfig, default.get_config().fitness.to_dict()).recipe(), epochs=1)


def network(channels: int) -> NetworkSpec:
    """Shapes that no other test has, for some channels."""
    conv = ConvSpec(channels, 3, True)
    return NetworkSpec((6, 6, 1), 3, "relu", "average", (BlockSpec(conv, PoolSpec("max", 2), conv, True, 0.0),))


def plan_of(channels: int) -> Plan:
    return Plan(network(channels), RECIPE, num_frozen=0, num_train=300, input_dtype="uint8", whole_epochs=False)


def compiled(caplog: pytest.LogCaptureFixture) -> collections.Counter[str]:
    """The programs that JAX says it has compiled, and how often."""
    messages = [record.getMessage() for record in caplog.records]
    return collections.Counter(message.split()[1] for message in messages if message.startswith("Compiling "))


def test_training_of_another_network_compiles_nothing_between_its_programs(caplog: pytest.LogCaptureFixture) -> None:
    for channels in (37, 41):
        plan = plan_of(channels)
        programs = build(plan)
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            caplog.clear()
            state = plan.initial_state(initialise(jax.random.key(0), plan.spec))
            (end,) = run_epochs(plan, programs, state, EXAMPLES, EXAMPLES, jax.random.key(1))
        assert end.accuracy is not None
    assert not compiled(caplog)


def test_features_of_a_trained_network_compile_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    for channels, known in ((43, False), (47, True), (53, False)):
        plan = plan_of(channels)
        programs = ProgramCache(threads=1)
        if known:
            programs.start([plan])
            programs.evaluation(plan)
        variables = initialise(jax.random.key(0), plan.spec)
        with jax.log_compiles(), caplog.at_level(logging.WARNING), contextlib.closing(programs):
            caplog.clear()
            PrefixFeatures(PhaseData(EXAMPLES, EXAMPLES), programs.evaluation).of("", None, plan, variables, 0)
        assert compiled(caplog) == ({} if known else {"jit(eval_step)": 1})


def test_features_and_trainings_on_a_device_compile_three_operations(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a phase's shapes, each a program to compile: room for its features, to place a batch there, to take one."""
    monkeypatch.setattr(features, "_fits_on_device", lambda _: True)
    images = PhaseData(EXAMPLES.on_device(), Examples(EXAMPLES.inputs[:200], EXAMPLES.labels[:200]).on_device())
    with contextlib.closing(ProgramCache(threads=1)) as programs:
        for channels in (59, 61):
            first = plan_of(channels)
            whole = dataclasses.replace(first, spec=dataclasses.replace(first.spec, blocks=first.spec.blocks * 2))
            second = dataclasses.replace(whole.of_block(1), whole_epochs=True)
            variables = initialise(jax.random.key(0), whole.spec)
            prefix = PrefixFeatures(images, programs.evaluation)
            for plan in (first, second):
                programs.start([plan])
                programs.evaluation(plan)
            state = second.initial_state(initialise(jax.random.key(0), second.spec))
            with jax.log_compiles(), caplog.at_level(logging.WARNING):
                caplog.clear()
                data = prefix.of("first", None, first, variables, 0)
                both = Programs(programs.training(second), programs.evaluation(second))
                (end,) = run_epochs(second, both, state, data.train, data.validation, jax.random.key(1))
                prefix.of("second", "first", whole, variables, 1)
            assert end.accuracy is not None
    # Each for training and validation: the features of both blocks, and batches of the first's.
    assert compiled(caplog) == {"jit(broadcast_in_dim)": 4, "jit(with_batch)": 4, "jit(_slice)": 2}


def test_an_evaluation_depends_on_nothing_that_decides_the_training_alone() -> None:
    plan = plan_of(4)
    deeper = dataclasses.replace(plan, spec=dataclasses.replace(plan.spec, blocks=plan.spec.blocks * 2), num_frozen=1)
    faster = dataclasses.replace(plan.recipe, learning_rate=0.5, epochs=plan.recipe.epochs + 1)
    for same in (deeper.of_block(0), dataclasses.replace(plan, recipe=faster, whole_epochs=True)):
        assert same.of_evaluation == plan.of_evaluation
    halved = dataclasses.replace(plan.recipe, precision="bfloat16")
    for other in (
        deeper,
        deeper.of_block(1),
        dataclasses.replace(plan, recipe=halved),
        dataclasses.replace(plan, input_dtype="float32"),
        dataclasses.replace(plan, layers="plain"),
    ):
        assert other.of_evaluation != plan.of_evaluation
