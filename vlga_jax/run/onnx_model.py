"""A trained network as an ONNX model, which runs without JAX, wherever ONNX Runtime does.

The model takes and gives what `Predictor.probabilities` does, from uint8 images `[images, height, width, channels]` to
float32 probabilities `[images, classes]`; scaling and whitening are part of it. Inside, activations are
`[images, channels, height, width]`, as ONNX has them. Operators: https://onnx.ai/onnx/operators/ (opset 17).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlga_jax import __version__
from vlga_jax.checks import InputError
from vlga_jax.network.modules import BATCH_NORM_EPSILON
from vlga_jax.network.spec import POOL_WINDOW, WHITENED_PATCH, ConvSpec, NetworkSpec
from vlga_jax.network.transfer import Variables
from vlga_jax.network.whitening import WHITENING

INPUT, OUTPUT = "images", "probabilities"
_OPSET, _IR = 17, 8  # of 2022: runtimes refuse models that are newer than they are
# Their constants, and that averages leave out what is padded, are ONNX's defaults.
_ACTIVATIONS = {"relu": "Relu", "elu": "Elu", "leaky_relu": "LeakyRelu", "tanh": "Tanh", "selu": "Selu"}
_POOLS = {"max": "MaxPool", "average": "AveragePool"}
_HEADS = {"average": "GlobalAveragePool", "max": "GlobalMaxPool"}


def onnx_model(spec: NetworkSpec, variables: Variables, class_names: Sequence[str]) -> bytes:
    """Returns the network as a serialised ONNX model; equal networks give equal bytes.

    Its input is `images`, its output `probabilities`; the classes' names are in its metadata, a JSON list.

    Args:
      spec: the network.
      variables: its weights.
      class_names: what the outputs mean, in their order.

    Raises:
      InputError: the package `onnx` is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise InputError("to_onnx", str(error.name), "is not installed; pip install onnx") from error
    graph = _Graph(onnx)
    height, width, channels = spec.input_shape
    scaled = graph.add("Div", graph.add("Cast", INPUT, to=onnx.TensorProto.FLOAT), graph.constant(np.float32(255)))
    x = graph.add("Transpose", scaled, perm=(0, 3, 1, 2))
    if spec.whitening:
        x = _whitened(graph, x, variables["batch_stats"][WHITENING])
    for index in range(len(spec.blocks)):
        x = _block(graph, x, spec, index, _submodule(variables, f"block_{index}"))
    head = variables["params"]["head"]
    x = graph.add("Flatten", graph.add(_HEADS[spec.head_pool], x))
    logits = graph.add("Gemm", x, graph.constant(head["kernel"]), graph.constant(head["bias"]))
    graph.add("Softmax", logits, output=OUTPUT, axis=-1)
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "vlga_jax",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, ["images", height, width, channels])],
        [helper.make_tensor_value_info(OUTPUT, floats, ["images", spec.num_classes])],
        graph.constants,
    )
    model = helper.make_model(
        made,
        producer_name="vlga_jax",
        producer_version=__version__,
        ir_version=_IR,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    helper.set_model_props(model, {"class_names": json.dumps(list(class_names))})
    serialised: bytes = model.SerializeToString()
    return serialised


class _Graph:
    """Nodes and constants of a model, in the order in which they are added.

    Args:
      onnx: the package, which is imported where it is needed only.
    """

    def __init__(self, onnx: Any):
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Returns the name of the new node's output."""
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, values: Any) -> str:
        """Returns the name of the new constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(values), name))
        return name


def _submodule(variables: Variables, name: str) -> Variables:
    """The parameters of a submodule and, where it has some, its statistics."""
    return {collection: tree.get(name, {}) for collection, tree in variables.items()}


def _whitened(graph: _Graph, x: str, statistics: Mapping[str, Any]) -> str:
    """A convolution of patches, once the last row and the last column are repeated."""
    mean, kernel = np.asarray(statistics["mean"]), np.asarray(statistics["kernel"])
    centred = graph.add("Sub", x, graph.constant(mean[:, None, None]))
    border = graph.constant(np.array([0, 0, 0, 0, 0, 0, WHITENED_PATCH - 1, WHITENED_PATCH - 1]))
    padded = graph.add("Pad", centred, border, mode="edge")
    taps = kernel.reshape(WHITENED_PATCH, WHITENED_PATCH, len(mean), -1)
    return graph.add("Conv", padded, graph.constant(taps.transpose(3, 2, 0, 1)))


def _block(graph: _Graph, x: str, spec: NetworkSpec, index: int, variables: Variables) -> str:
    block, inputs, in_shape = spec.blocks[index], x, spec.shape_before(index)
    x = _unit(graph, x, block.a, spec.activation, in_shape, _submodule(variables, "a"))
    if block.pool is not None:
        window = _window(POOL_WINDOW, block.pool.stride, block.a.out_shape(in_shape))
        x = graph.add(_POOLS[block.pool.kind], x, **window)
    if block.b is not None:
        x = _unit(graph, x, block.b, spec.activation, block.out_shape(in_shape), _submodule(variables, "b"))
    if block.skip:
        window = _window(1, block.stride, in_shape)
        x = graph.add("Add", x, _convolution(graph, inputs, window, variables["params"]["skip"]))
    return x


def _unit(
    graph: _Graph, x: str, conv: ConvSpec, activation: str, in_shape: tuple[int, int, int], variables: Variables
) -> str:
    params = variables["params"]
    x = _convolution(graph, x, _window(conv.kernel, conv.stride, in_shape), params["conv"])
    if conv.batch_norm:
        norm, running = params["norm"], variables["batch_stats"]["norm"]
        values = (norm["scale"], norm["bias"], running["mean"], running["var"])
        x = graph.add("BatchNormalization", x, *map(graph.constant, values), epsilon=BATCH_NORM_EPSILON)
    return graph.add(_ACTIVATIONS[activation], x)


def _convolution(graph: _Graph, x: str, window: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    kernel = graph.constant(np.asarray(params["kernel"]).transpose(3, 2, 0, 1))
    bias = (graph.constant(params["bias"]),) if "bias" in params else ()
    return graph.add("Conv", x, kernel, *bias, **window)


def _window(size: int, stride: int, in_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Attributes of a square window that is 'same': what is odd of the padding lies below and to the right."""
    over = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in in_shape[:2]]
    before = [each // 2 for each in over]
    pads = [*before, *(each - first for each, first in zip(over, before, strict=True))]
    return {"kernel_shape": [size, size], "strides": [stride, stride], "pads": pads}
