"""The networks of pytorch.py: blocks as genes describe them, behind blocks that no longer learn."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_CLASSES = 10
TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal cut at 2
LARGEST_VECTOR = 16  # float32 numbers, in AVX-512
ACTIVATIONS = {
    "relu": lambda: nn.ReLU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
}


class Pool(nn.Module):
    """A 2x2 'same' pool, max or average: windows that reach over the lower and right edge see only what is inside."""

    def __init__(self, kind: str, stride: int, side: int):
        super().__init__()
        self.kind, self.stride = kind, stride
        four_over_inside = torch.ones(1, 1, side, side)  # of the four pixels of each window of stride 1
        four_over_inside[..., -1] *= 2
        four_over_inside[..., -1, :] *= 2
        self.register_buffer("four_over_inside", four_over_inside)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x = F.pad(x, (0, 1, 0, 1), value=-math.inf if self.kind == "max" else 0.0)
        if self.kind == "max":
            return F.max_pool2d(x, 2, self.stride, ceil_mode=True)
        x = F.avg_pool2d(x, 2, self.stride, ceil_mode=True, count_include_pad=False)
        return x * self.four_over_inside.to(x.dtype) if self.stride == 1 else x


class Block(nn.Module):
    """Convolution a, batch norm, activation, pool; convolution b, batch norm, activation; plus 1x1 of the input."""

    def __init__(
        self,
        genes: dict,
        activation: str,
        in_channels: int,
        side: int,
        pool_stride: int,
        *,
        first: bool,
        min_side: int = 1,
    ):
        """Builds the block with fresh weights.

        Args:
          genes: name to value.
          activation: a key of `ACTIVATIONS`.
          in_channels, side: of the maps that go in; `side` in pixels. A 1x1 map is not pooled.
          pool_stride: pixels.
          first: whether this is a network's first block, which always has convolution b.
          min_side: pixels; a pool that would leave fewer has stride 1.
        """
        super().__init__()
        pooled = genes["include_pool"] and side > 1
        stride = pool_stride if pooled and -(-side // pool_stride) >= min_side else 1
        self.out_side, self.out_channels = -(-side // stride), genes["a_channels"]
        layers = conv_unit(genes, "a", activation, in_channels)
        if pooled:
            layers.append(Pool(genes["pool_type"], stride, side))
        if first or genes["include_b"]:
            layers += conv_unit(genes, "b", activation, self.out_channels)
            self.out_channels = genes["b_channels"]
        self.main = nn.Sequential(*layers)
        self.skip = Skip(in_channels, self.out_channels, 1, stride) if genes["include_skip"] else None
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) if self.skip is None else self.main(x) + self.skip(x)


class Skip(nn.Conv2d):
    """The 1x1 convolution of a skip connection, of `[batch, in_channels, height, width]`.

    On a CPU few channels are cut to the pixels that the stride meets before they are convolved. oneDNN 3.12, which
    PyTorch 2.13 has, otherwise writes beyond a buffer where they are fewer than the places of a vector (8 in AVX2, 16
    in AVX-512), and hangs or returns a wrong gradient: https://github.com/uxlfoundation/oneDNN/issues/6035.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu and self.in_channels < LARGEST_VECTOR:
            rows, columns = self.stride
            return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)
        return super().forward(x)


def conv_unit(genes: dict, name: str, activation: str, in_channels: int) -> list[nn.Module]:
    """Returns the layers of convolution a or b."""
    channels, kernel, norm = (genes[f"{name}_{gene}"] for gene in ("channels", "kernel", "batch_norm"))
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=not norm)
    norms = [nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)] if norm else []
    return [conv, *norms, ACTIVATIONS[activation]()]


def initialise(module: nn.Module) -> None:
    """Fills kernels with a truncated normal of variance 1 / fan-in, biases with 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        std = math.sqrt(1 / module.weight[0].numel()) / TRUNCATED_STDDEV
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Network(nn.Module):
    """A frozen prefix, the block that learns, and the head."""

    def __init__(self, prefix: list[Block], block: Block):
        super().__init__()
        self.prefix = nn.Sequential(*prefix).requires_grad_(False)
        self.block = block
        self.head = nn.Linear(block.out_channels, NUM_CLASSES)
        initialise(self.head)

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        self.prefix.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.prefix(images)
        return self.head(self.block(x).mean((2, 3)))
