"""How much work a training is, counted by hand."""

from vlga_jax.network.spec import NetworkSpec, count_flops


def training_flops(trained: NetworkSpec) -> int:
    """Returns the floating-point operations of one image in a step: forward, and the gradients of all but the inputs.

    Args:
      trained: the network; what follows a frozen prefix, where there is one.
    """
    if not trained.blocks:
        return 2 * count_flops(trained)  # the dense layer, without the gradient of its inputs
    first, channels = trained.blocks[0], trained.input_shape[2]
    height, width, _ = first.a.out_shape(trained.input_shape)
    out_height, out_width, _ = first.out_shape(trained.input_shape)
    of_inputs = 2 * height * width * first.a.kernel**2 * channels * first.a.channels
    if first.skip:
        of_inputs += 2 * out_height * out_width * channels * first.out_channels
    return 3 * count_flops(trained) - of_inputs
