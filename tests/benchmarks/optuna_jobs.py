"""A job of the Optuna peer, for its tests."""

import copy
from typing import Any

SPACE = {
    "activation": ["relu", "elu"],
    "a_channels": [8, 16],
    "a_kernel": [1, 3],
    "a_batch_norm": [True, False],
    "include_pool": [True, False],
    "pool_type": ["max", "average"],
    "include_b": [True, False],
    "b_channels": [8, 16],
    "b_kernel": [1, 3],
    "b_batch_norm": [True, False],
    "include_skip": [True, False],
}
FINAL = {
    "epochs": 2,
    "patience": 1,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "flip": True,
    "crop_padding": 4,
}
JOB = {
    "space": SPACE,
    "pool_stride": 2,
    "min_side": 8,
    "whitening": True,
    "min_convolutions": 2,
    "max_convolutions": 7,
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "images": "images.npz",
    "seed": 0,
    "budget_seconds": 20,
    "final": FINAL,
}


def job(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(JOB), **changes}
