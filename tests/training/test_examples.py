"""Examples on the device are those on the host, in whole batches."""

import jax
import numpy as np
import pytest

from vlga_jax.training.examples import Examples, with_batch
from vlga_jax.training.inference import EVAL_BATCH_SIZE


def examples(size: int) -> Examples:
    rng = np.random.default_rng(size)
    return Examples(rng.integers(0, 256, (size, 3, 2, 1)).astype(np.uint8), rng.integers(0, 3, size).astype(np.int32))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_batches_hold_all_examples_in_order_wherever_they_lie(size: int) -> None:
    host = examples(size)
    there = host.on_device()
    assert isinstance(there.inputs, jax.Array) and len(there) == size
    np.testing.assert_array_equal(there.labels, host.labels)
    for each in (host, there):
        starts, batches = zip(*((start, np.asarray(batch)) for start, batch in each.batches()), strict=True)
        assert starts == tuple(range(0, size, EVAL_BATCH_SIZE))
        assert {batch.shape for batch in batches} == {(EVAL_BATCH_SIZE, 3, 2, 1)}
        np.testing.assert_array_equal(np.concatenate(batches)[:size], host.inputs, strict=True)


def test_examples_on_the_device_are_not_copied_again() -> None:
    there = examples(3).on_device()
    assert there.on_device().inputs is there.inputs


def test_nbytes_counts_examples_only() -> None:
    assert examples(3).nbytes == examples(3).on_device().nbytes == 3 * 3 * 2


def test_inputs_that_are_not_as_many_as_they_should_be_are_refused() -> None:
    host = examples(5)
    with pytest.raises(ValueError, match="4 inputs on the host for 5 labels, not 5"):
        Examples(np.asarray(host.inputs)[:4], host.labels)
    with pytest.raises(ValueError, match="5 inputs on the device for 5 labels, not 256"):
        Examples(jax.device_put(host.inputs), host.labels)


def test_at_gives_inputs_and_labels_of_the_rows_asked_for() -> None:
    host, rows = examples(9), np.array([7, 0, 7])
    inputs, labels = host.at(rows)
    np.testing.assert_array_equal(inputs, np.stack([host.inputs[row] for row in rows]))
    np.testing.assert_array_equal(labels, [host.labels[row] for row in rows])


def test_with_batch_replaces_rows_from_the_start_given() -> None:
    outputs, batch = np.zeros((6, 2), np.float32), np.ones((2, 2), np.float32)
    found = with_batch(jax.device_put(outputs), batch, np.int32(3))
    np.testing.assert_array_equal(found, np.concatenate([outputs[:3], batch, outputs[5:]]))
