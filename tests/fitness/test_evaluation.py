import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import pytest

from experiments import cifar10, default
from vlga_jax.checks import parse
from vlga_jax.fitness import evaluation
from vlga_jax.fitness.evaluation import FitnessConfig, Limits, Request, digest_of, request_from_json
from vlga_jax.network import onednn
from vlga_jax.network.spec import BlockSpec
from vlga_jax.run.finish import FinalConfig


def variants(value: Any) -> Iterator[Any]:
    """Yields copies of a value, each changed in one place, at any depth; every place is changed once or more."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            for changed in variants(getattr(value, field.name)):
                if field.name == "b" and changed.stride != 1:
                    continue  # which no block may have
                yield dataclasses.replace(value, **{field.name: changed})
        if isinstance(value, BlockSpec):
            yield dataclasses.replace(value, pool=None)
            yield dataclasses.replace(value, b=None)
    elif isinstance(value, tuple):
        for place, item in enumerate(value):
            for changed in variants(item):
                yield (*value[:place], changed, *value[place + 1 :])
        if isinstance(value[0], BlockSpec):
            yield (*value, value[-1])
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        yield f"{value}x"
    elif value is None:
        yield "0" * 64
    else:
        yield value + 1


def full_request(make_request: Any) -> Request:
    """A request with nothing left out: two blocks, a pool, both convolutions, limits, an ancestor, a stop."""
    limits = {"max_seconds": 1.5, "max_parameters": 10_000, "max_flops": 10**9, "max_block_flops": 10**8}
    return make_request(heir_of=make_request(), limits=limits, sources=(0, None), train_epochs=1)


def test_digest_of_known_values_is_sha256_of_their_canonical_json() -> None:
    # printf '{"a":[1.5,null,true],"b":"x"}' | sha256sum
    by_hand = "eebf98de6514be6350069fa5480347143a35961c9c20161887c1c10798fa617b"
    assert digest_of({"b": "x", "a": (1.5, None, True)}) == by_hand


def test_request_digest_of_a_written_out_request_is_sha256_of_its_json(make_request: Any) -> None:
    text = (
        '{"data":"made here","inherited_from":null,"limits":{"max_flops":0,"max_parameters":0,"max_seconds":0.0},'
        '"network":{"activation":"relu","blocks":[{"a":{"batch_norm":true,"channels":4,"kernel":3,"stride":1},'
        '"b":{"batch_norm":false,"channels":4,"kernel":1,"stride":1},"dropout_rate":0.0,"pool":{"kind":"max","stride":2},'
        '"skip":false}],"head_pool":"average","input_shape":[6,6,1],"num_classes":3},"num_inherited":0,'
        '"recipe":{"batch_size":16,"crop_padding":0,"epochs":2,"flip":false,"label_smoothing":0.0,'
        '"learning_rate":0.01,"optimizer":"adam","precision":"float32","schedule":"constant","warmup_epochs":0.0,"weight_decay":0.0},'
        '"seed":0,"sources":null,"train_epochs":null}'
    )
    assert make_request().to_json() == text
    limits = '"limits":{"max_flops":0,"max_parameters":0,"max_seconds":0.0},'
    assert make_request().digest == hashlib.sha256(text.replace(limits, "").encode()).hexdigest()


def test_request_digest_of_other_limits_is_the_same(make_request: Any) -> None:
    assert make_request(limits={"max_flops": 10**12, "max_seconds": 1e6}).digest == make_request().digest


def test_request_digest_of_every_changed_field_differs(make_request: Any) -> None:
    request = full_request(make_request)
    changed = list(variants(request))
    asked = [other for other in changed if other.limits == request.limits]
    digests = {other.digest for other in asked} | {request.digest}
    assert len(digests) == len(asked) + 1
    # Of each block 11 values and 2 parts that may be missing; a third block; 3 of the shape, 4 more of the network;
    # 15 of the recipe, 2 sources, 5 others; and 4 limits, which are no part of it.
    assert len(asked) == 2 * (11 + 2) + 1 + 3 + 4 + 14 + 2 + 5
    assert len(changed) == len(asked) + 4


def test_request_until_an_epoch_shares_the_trajectory_of_the_whole_training(make_request: Any) -> None:
    whole = make_request(recipe={"epochs": 3})
    first, second = whole.until(1), whole.until(2)
    assert len({whole.digest, first.digest, second.digest}) == 3
    assert {request.trajectory for request in (whole, first, second)} == {whole.digest}
    assert [request.num_epochs for request in (first, second, whole)] == [1, 2, 3]
    assert whole.until(3) == first.until(3) == whole


def test_request_digest_of_equal_requests_is_equal(make_request: Any) -> None:
    assert full_request(make_request).digest == full_request(make_request).digest


def test_request_from_json_of_any_request_restores_it(make_request: Any) -> None:
    request = full_request(make_request)
    bare = make_request(block={"pool": None, "b": None, "skip": True, "dropout_rate": 0.1})
    for original in (request, bare, *variants(request)):
        restored = request_from_json(original.to_json())
        assert restored == original
        assert hash(restored.network) == hash(original.network)
        assert restored.digest == original.digest


def test_canonical_json_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        evaluation.canonical_json({"a": float("nan")})


def test_key_of_a_digest_is_its_first_64_bits() -> None:
    key = evaluation.key_of("0000000100000002" + "f" * 48)
    assert jax.random.key_data(key).tolist() == [1, 2]
    assert jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)


def test_key_of_other_digests_differs(make_request: Any) -> None:
    keys = {tuple(jax.random.key_data(evaluation.key_of(make_request(seed=seed).digest)).tolist()) for seed in range(9)}
    assert len(keys) == 9


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        # Convolution 3x3x1x4 and its norm 36 + 8, convolution 1x1x4x4 with bias 20, head (4 + 1) x 3: 79.
        ({"max_parameters": 79}, None),
        ({"max_parameters": 78}, ("too_many_parameters", "79 parameters, over fitness.max_parameters=78")),
        # 2 x (36 x 36 before the pool, 9 x 16 after, 12 of the head): 2904.
        ({"max_flops": 2904}, None),
        ({"max_flops": 2903}, ("too_many_flops", "2904 flops, over fitness.max_flops=2903")),
        ({"max_block_flops": 2880}, None),
        (
            {"max_block_flops": 2879},
            ("too_many_block_flops", "2880 flops in its costliest block, over fitness.max_block_flops=2879"),
        ),
        (
            {"max_parameters": 1, "max_flops": 1},
            ("too_many_parameters", "79 parameters, over fitness.max_parameters=1"),
        ),
        ({}, None),
    ],
)
def test_request_rejection_at_a_limit_counts_by_hand(
    make_request: Any, limits: dict[str, int], expected: tuple[str, str] | None
) -> None:
    assert make_request(limits=limits).rejection() == expected


def test_failure_of_a_request_has_the_worst_fitness(make_request: Any) -> None:
    request = make_request()
    failed = evaluation.failure(request, "diverged", "why", train_seconds=2.0)
    assert (failed.digest, failed.status, failed.fitness, failed.reason) == (request.digest, "diverged", 0.0, "why")
    assert (failed.losses, failed.train_seconds, failed.compile_seconds) == ((), 2.0, 0.0)


def test_fitness_config_recipe_of_the_defaults_augments_nothing() -> None:
    config = parse(FitnessConfig, default.get_config().fitness.to_dict())
    recipe = config.recipe()
    assert (recipe.flip, recipe.crop_padding) == (False, 0)
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.learning_rate) == (3, 256, "adam", 1e-3)
    assert config.limits() == Limits(0.0, 0, 0, 0)
    limits: dict[str, Any] = {"max_seconds": 1.0, "max_parameters": 2, "max_flops": 3, "max_block_flops": 4}
    assert dataclasses.replace(config, **limits).limits() == Limits(1.0, 2, 3, 4)


@pytest.mark.parametrize(("layers", "precision"), [("plain", "float32"), ("tuned", "bfloat16")])
def test_recipe_of_automatic_precision_names_the_one_used(
    layers: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "computes_bfloat16", lambda: True)
    values = cifar10.get_config()
    values.fitness.layers = layers
    assert parse(FitnessConfig, values.fitness.to_dict()).recipe().precision == precision
    assert parse(FinalConfig, values.final.to_dict()).recipe(3, layers).precision == precision


@pytest.mark.parametrize("later", [{"cutout": 1}, {"ema_decay": 0.5}, {"clip_norm": 1.0}])
def test_request_with_a_later_field_of_the_recipe_names_it(make_request: Any, later: dict[str, Any]) -> None:
    (name,) = later
    request = make_request(recipe=later)
    assert name in request.to_json() and name not in make_request().to_json()
    assert request_from_json(request.to_json()) == request


def test_request_with_a_limit_of_blocks_names_it_and_counts_the_costliest(make_request: Any) -> None:
    limited = make_request(limits={"max_block_flops": 2879})
    assert "max_block_flops" in limited.to_json() and "max_block_flops" not in make_request().to_json()
    assert request_from_json(limited.to_json()) == limited and limited.digest == make_request().digest
    heir = make_request(heir_of=make_request(), limits={"max_block_flops": 2880})  # its own block is on 3x3 pixels
    assert heir.rejection() is None
    assert dataclasses.replace(heir, limits=limited.limits).rejection() is not None


def test_request_for_a_network_that_whitens_names_it(make_request: Any) -> None:
    plain = make_request()
    white = dataclasses.replace(plain, network=dataclasses.replace(plain.network, whitening=True))
    assert "whitening" in white.to_json() and "whitening" not in plain.to_json()
    assert request_from_json(white.to_json()) == white and white.digest != plain.digest
