"""How much work a training is, counted by hand."""

from vlga_jax.network.spec import NetworkSpec, count_flops


def training_flops(trained: NetworkSpec) -> int:
    """Returns the floating-point operations of one image in a step: forward, and the gradients of all but the inputs.

    Args:
      trained: the network; what follows a frozen prefix, where there is one.
    """
    if not trained.blocks:
        # The dense layer, without the gradient of its inputs; whitening is not learnt.
        return 2 * count_flops(trained) - trained.whitening_flops
    first, in_shape = trained.blocks[0], trained.shape_before(0)
    channels = in_shape[2]
    height, width, _ = first.a.out_shape(in_shape)
    out_height, out_width, _ = first.out_shape(in_shape)
    of_inputs = 2 * height * width * first.a.kernel**2 * channels * first.a.channels
    if first.skip:
        of_inputs += 2 * out_height * out_width * channels * first.out_channels
    return 3 * count_flops(trained) - of_inputs - 2 * trained.whitening_flops
