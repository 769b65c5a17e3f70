"""What a network is: frozen, hashable descriptions, JSON both ways, with their cost counted by hand.

A block is: convolution a, batch norm, activation, pool; convolution b, batch norm, activation; plus, with a skip, a 1x1
convolution of the block's input (Xiao et al. 2020, section 3.1; that convolution a may have a stride is ours). The head
is global pooling and one dense layer. Before the first block images may be whitened (`vlga_jax.network.whitening`).
"""

import dataclasses
from typing import Any

POOL_WINDOW = 2  # pixels, both sides
WHITENED_PATCH = 2  # pixels, both sides


@dataclasses.dataclass(frozen=True)
class ConvSpec:
    """A square 'same' convolution.

    Attributes:
      channels: of its output.
      kernel: its side, pixels.
      batch_norm: whether batch norm follows.
      stride: from one output to the next, pixels, 1 to 4.
    """

    channels: int
    kernel: int
    batch_norm: bool
    stride: int = 1  # what it is in files that do not say it

    def out_shape(self, in_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns height, width and channels after the convolution; 'same' padding rounds up."""
        height, width, _ = in_shape
        return -(-height // self.stride), -(-width // self.stride), self.channels


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """A 2x2 'same' pool: max or average; stride in pixels, 1 or 2."""

    kind: str
    stride: int


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One block; `dropout_rate` is the share of its outputs dropped in training.

    Raises:
      ValueError: convolution b has a stride.
    """

    a: ConvSpec
    pool: PoolSpec | None
    b: ConvSpec | None
    skip: bool
    dropout_rate: float

    def __post_init__(self) -> None:
        if self.b is not None and self.b.stride != 1:
            raise ValueError(f"convolution b has stride {self.b.stride}; only a may have one")

    @property
    def stride(self) -> int:
        """From one output to the next, pixels: convolution a's times the pool's."""
        return self.a.stride * (self.pool.stride if self.pool else 1)

    @property
    def out_channels(self) -> int:
        return (self.b or self.a).channels

    def out_shape(self, in_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns height, width and channels after the block; 'same' padding rounds up.

        Rounding up after convolution a and again after the pool is rounding up once, as the skip does.
        """
        height, width, _ = in_shape
        return -(-height // self.stride), -(-width // self.stride), self.out_channels


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """A whole network.

    Attributes:
      input_shape: height, width, channels of what goes in.
      num_classes: number of logits.
      activation: after every convolution.
      head_pool: global pooling before the dense layer, average or max.
      blocks: with none, the images, whitened or not, are pooled.
      whitening: whether the first block sees whitened patches of the images in place of their pixels.
    """

    input_shape: tuple[int, int, int]
    num_classes: int
    activation: str
    head_pool: str
    blocks: tuple[BlockSpec, ...]
    whitening: bool = False  # what it is in files that do not say it

    def shape_before(self, block: int) -> tuple[int, int, int]:
        """Returns height, width and channels of what goes into a block; with `len(blocks)`, into the head."""
        height, width, channels = self.input_shape
        shape = (height, width, WHITENED_PATCH**2 * channels if self.whitening else channels)
        for spec in self.blocks[:block]:
            shape = spec.out_shape(shape)
        return shape

    def suffix(self, first: int) -> "NetworkSpec":
        """Returns the network that maps the outputs of block `first - 1` to logits; from 0 on it is all of this one."""
        if first == 0:
            return self
        return dataclasses.replace(
            self, input_shape=self.shape_before(first), blocks=self.blocks[first:], whitening=False
        )

    @property
    def whitening_flops(self) -> int:
        """What whitening adds to `count_flops`."""
        height, width, channels = self.shape_before(0)
        return 2 * height * width * channels**2 if self.whitening else 0

    def block_flops(self, block: int) -> int:
        """Returns what a block adds to `count_flops`."""
        spec, in_shape = self.blocks[block], self.shape_before(block)
        (height, width, channels), (out_height, out_width, _) = spec.a.out_shape(in_shape), spec.out_shape(in_shape)
        flops = 2 * height * width * spec.a.kernel**2 * in_shape[2] * channels
        if spec.b is not None:
            flops += 2 * out_height * out_width * spec.b.kernel**2 * channels * spec.b.channels
        if spec.skip:
            flops += 2 * out_height * out_width * in_shape[2] * spec.out_channels
        return flops

    def to_json(self) -> dict[str, Any]:
        """Returns nested mappings of plain values."""
        return dataclasses.asdict(self)


def from_json(values: dict[str, Any]) -> NetworkSpec:
    """Returns the spec that `NetworkSpec.to_json` wrote, after a pass through JSON."""

    def block(fields: dict[str, Any]) -> BlockSpec:
        return BlockSpec(
            a=ConvSpec(**fields["a"]),
            pool=PoolSpec(**fields["pool"]) if fields["pool"] else None,
            b=ConvSpec(**fields["b"]) if fields["b"] else None,
            skip=fields["skip"],
            dropout_rate=fields["dropout_rate"],
        )

    height, width, channels = values["input_shape"]
    return NetworkSpec(
        **{
            **values,
            "input_shape": (height, width, channels),
            "blocks": tuple(block(fields) for fields in values["blocks"]),
        }
    )


def count_parameters(spec: NetworkSpec) -> int:
    """Returns the number of trainable values: kernels, biases, batch norm scales and offsets; whitening has none."""
    total = (spec.shape_before(len(spec.blocks))[2] + 1) * spec.num_classes
    for index, block in enumerate(spec.blocks):
        channels = spec.shape_before(index)[2]
        for conv in (block.a, block.b):
            if conv is not None:
                total += conv.kernel**2 * channels * conv.channels + (2 if conv.batch_norm else 1) * conv.channels
                channels = conv.channels
        if block.skip:
            total += (spec.shape_before(index)[2] + 1) * block.out_channels
    return total


def count_flops(spec: NetworkSpec) -> int:
    """Returns floating-point operations of one image's forward pass; a multiply-add counts as two.

    Convolutions, whitening and the dense layer count, elementwise work does not.
    """
    head = 2 * spec.shape_before(len(spec.blocks))[2] * spec.num_classes
    return head + spec.whitening_flops + sum(map(spec.block_flops, range(len(spec.blocks))))
