"""Writes two versions of a model with random weights: `models.py big|resnet DIRECTORY`. Images come with an example."""

import json
import pathlib
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

random = numpy.random.default_rng(7)


class Graph:
    """Nodes and weights, added one by one."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, *shape, scale=1.0):
        name = f"w{len(self.weights)}"
        values = (random.standard_normal(shape, numpy.float32) * scale).astype(numpy.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator, inputs, output=None, **attributes):
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def save(self, path, x, y):
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, path.stem, [value("x", x)], [value("y", y)], self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def big(path, version):
    """100 MB of weights; the answer to [1, 1] is the version, whatever the weights."""
    graph, side = Graph(), 5000
    wide = graph.add("MatMul", ["x", graph.weight(2, side)])
    deep = graph.add("Tanh", [graph.add("MatMul", [wide, graph.weight(side, side)])])
    narrow = graph.add("MatMul", [deep, graph.weight(side, 2)])
    # So little that a sum does not show it; an engine would leave out what is multiplied by zero.
    factors = [("little", 1e-30), ("factor", float(version))]
    graph.weights += [numpy_helper.from_array(numpy.array([value], numpy.float32), name) for name, value in factors]
    nothing = graph.add("Mul", [graph.add("Tanh", [narrow]), "little"])
    graph.add("Add", [graph.add("Mul", ["x", "factor"]), nothing], "y")
    graph.save(path, ["n", 2], ["n", 2])


def resnet(path, version):
    """ResNet-18: 11.7 million weights, 1.8 billion multiplications for an image."""
    graph = Graph()

    def convolution(x, inputs, outputs, size, stride):
        kernel = graph.weight(outputs, inputs, size, size, scale=(inputs * size * size) ** -0.5)
        y = graph.add("Conv", [x, kernel], kernel_shape=[size, size], strides=[stride] * 2, pads=[size // 2] * 4)
        scale, bias, mean = (graph.weight(outputs, scale=0.1) for _ in range(3))
        variance = f"v{len(graph.weights)}"
        graph.weights.append(numpy_helper.from_array(numpy.ones(outputs, numpy.float32), variance))
        return graph.add("BatchNormalization", [y, scale, bias, mean, variance])

    x = graph.add("Relu", [convolution("x", 3, 64, 7, 2)])
    x = graph.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    width = 64
    for outputs, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        y = graph.add("Relu", [convolution(x, width, outputs, 3, stride)])
        y = convolution(y, outputs, outputs, 3, 1)
        x = x if width == outputs else convolution(x, width, outputs, 1, stride)
        x, width = graph.add("Relu", [graph.add("Add", [x, y])]), outputs
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    graph.add("Gemm", [x, graph.weight(512, 1000, scale=0.05), graph.weight(1000)], "y")
    graph.save(path, ["n", 3, 224, 224], ["n", 1000])
    image = random.standard_normal((1, 3, 224, 224)).round(2)
    path.with_suffix(".example.json").write_text(json.dumps({"inputs": image.tolist()}))


model, directory = sys.argv[1:]
for version in (1, 2):
    {"big": big, "resnet": resnet}[model](pathlib.Path(directory) / f"{model}-{version}.onnx", version)
