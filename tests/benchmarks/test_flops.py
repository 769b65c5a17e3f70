import dataclasses

from benchmarks.flops import training_flops
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec


def test_training_flops_leaves_out_the_gradient_of_the_inputs() -> None:
    # 7x9 images of 2 channels; a of stride 2 to 4x5, average pool of stride 2 to 2x3, b and the skip there; the head.
    block = BlockSpec(ConvSpec(3, 3, True, 2), PoolSpec("average", 2), ConvSpec(5, 1, True), True, 0.0)
    network = NetworkSpec((7, 9, 2), 4, "relu", "average", (block,))
    a, b, skip, head = 4 * 5 * (3 * 3 * 2 * 3), 2 * 3 * (3 * 5), 2 * 3 * (2 * 5), 5 * 4
    assert training_flops(network) == 2 * (2 * a + 3 * b + 2 * skip + 3 * head)
    assert training_flops(network.suffix(1)) == 2 * 2 * head, "the head's own gradient alone"
    white = dataclasses.replace(network, whitening=True)  # eight channels, and 8x8 at each pixel
    assert training_flops(white) == 2 * (2 * 4 * a + 3 * b + 2 * 4 * skip + 3 * head) + 2 * 7 * 9 * 8 * 8
