"""What a final training asks for: its recipe, and a digest of every field that changes it."""

import dataclasses
from typing import Any

from tests.run.finishing import CONFIG, request
from vlga_jax.fitness.evaluation import digest_of
from vlga_jax.run.finish import FinalConfig


def test_recipe_augments_colour_images_only() -> None:
    assert (CONFIG.recipe(3, "tuned").flip, CONFIG.recipe(3, "tuned").crop_padding) == (True, 1)
    for num_channels in (1, 2, 4):
        grey = CONFIG.recipe(num_channels, "tuned")
        assert (grey.flip, grey.crop_padding) == (False, 0)
        assert grey == dataclasses.replace(CONFIG.recipe(3, "tuned"), flip=False, crop_padding=0, cutout=0)


def test_final_requests_digest_differs_in_every_field_of_its_config() -> None:
    changes: list[dict[str, Any]] = [
        {"epochs": 5},
        {"patience": 1},
        {"init": "scratch"},
        {"init": "scratch", "widen_to_flops": 10**6},
        {"use_all_data": True},
        {"batch_size": 9},
        {"optimizer": "sgd"},
        {"learning_rate": 0.06},
        {"schedule": "constant"},
        {"warmup_epochs": 2.0},
        {"weight_decay": 0.2},
        {"label_smoothing": 0.2},
        {"flip": False},
        {"crop_padding": 2},
        {"cutout": 3},
        {"ema_decay": 0.8},
        {"clip_norm": 1.0},
        {"test_flip": True},
        {"precision": "bfloat16"},
    ]
    assert [[*change][-1] for change in changes] == [f.name for f in dataclasses.fields(FinalConfig)]
    configs = [CONFIG, *(dataclasses.replace(CONFIG, **change) for change in changes)]
    digests = {dataclasses.replace(request(), config=config).digest for config in configs}
    assert len(digests) == len(changes) + 1
    others: dict[str, Any] = {
        "request": dataclasses.replace(request().request, seed=1),
        "environment": "there",
        "data": "more",
    }
    for name, value in others.items():
        assert dataclasses.replace(request(), **{name: value}).digest not in digests
    assert request().digest in digests


def test_final_request_without_later_fields_has_the_digest_it_always_had() -> None:
    final = request(cutout=0, ema_decay=0.0)
    values = dataclasses.asdict(final)
    assert values.pop("data") == values["request"]["data"], "it did not say that either"
    for name in ("cutout", "ema_decay", "clip_norm", "test_flip", "widen_to_flops"):
        del values["config"][name]
    for name in ("cutout", "ema_decay", "clip_norm"):
        del values["request"]["recipe"][name]
    del values["request"]["limits"]["max_block_flops"]
    del values["request"]["network"]["whitening"]
    assert request(cutout=0, ema_decay=0.0).request.recipe.cutout == 0
    assert final.digest == final.trajectory == digest_of(values)


def test_final_request_with_a_mirrored_test_is_the_same_training() -> None:
    plain, mirrored = request(), request(test_flip=True)
    assert plain.trajectory == mirrored.trajectory == plain.digest != mirrored.digest
    assert request(cutout=3).trajectory != plain.trajectory
