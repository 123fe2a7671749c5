"""Writes two versions of a model with random weights: `models.py NAME DIRECTORY`. Images come with an example."""

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

    def constant(self, values, dtype=numpy.float32):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(numpy.array(values, dtype), name))
        return name

    def save(self, path, x, y, dtype=TensorProto.FLOAT):
        inputs = [helper.make_tensor_value_info("x", dtype, x)]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)]
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, self.weights)
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


def mobilenet(path, version):
    """MobileNet-v2: 3.5 million weights, 0.3 billion multiplications for an image. Gets no quicker in batches."""
    graph = Graph()

    def convolution(x, inputs, outputs, size=1, stride=1, groups=1, active=True):
        kernel = graph.weight(outputs, inputs // groups, size, size, scale=(inputs // groups * size * size) ** -0.5)
        bias = graph.weight(outputs, scale=0.1)
        shape = {"kernel_shape": [size, size], "strides": [stride] * 2, "pads": [size // 2] * 4, "group": groups}
        x = graph.add("Conv", [x, kernel, bias], **shape)
        return graph.add("Clip", [x, low, high]) if active else x

    low, high = graph.constant(0.0), graph.constant(6.0)
    x, width = convolution("x", 3, 32, 3, 2), 32
    for expand, outputs, repeats, stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:
        for index in range(repeats):
            wide = width * expand
            y = convolution(x, width, wide) if expand > 1 else x
            y = convolution(y, wide, wide, 3, stride if index == 0 else 1, wide)
            y = convolution(y, wide, outputs, active=False)
            x = graph.add("Add", [x, y]) if index > 0 else y
            width = outputs
    x = convolution(x, width, 1280)
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    graph.add("Gemm", [x, graph.weight(1280, 1000, scale=0.05), graph.weight(1000)], "y")
    graph.save(path, ["n", 3, 224, 224], ["n", 1000])


def minilm(path, version):
    """MiniLM-L6: six layers of 384, for 32 tokens; sentence vectors. A smaller vocabulary, which costs no time."""
    graph, width, heads, wide, tokens = Graph(), 384, 12, 1536, 32

    def dense(x, inputs, outputs):
        product = graph.add("MatMul", [x, graph.weight(inputs, outputs, scale=inputs**-0.5)])
        return graph.add("Add", [product, graph.weight(outputs, scale=0.02)])

    def normalised(x):
        return graph.add("LayerNormalization", [x, graph.constant([1.0] * width), graph.constant([0.0] * width)], axis=-1)

    split = graph.constant([0, tokens, heads, width // heads], numpy.int64)
    joined = graph.constant([0, tokens, width], numpy.int64)
    root, half, one = graph.constant((width / heads) ** 0.5), graph.constant(0.5), graph.constant(1.0)
    two = graph.constant(2**0.5)
    x = graph.add("Gather", [graph.weight(1000, width, scale=0.1), "x"])
    x = normalised(graph.add("Add", [x, graph.weight(tokens, width, scale=0.1)]))
    for _ in range(6):
        query, key, value = (graph.add("Reshape", [dense(x, width, width), split]) for _ in range(3))
        query = graph.add("Transpose", [query], perm=[0, 2, 1, 3])
        key = graph.add("Transpose", [key], perm=[0, 2, 3, 1])
        value = graph.add("Transpose", [value], perm=[0, 2, 1, 3])
        scores = graph.add("Div", [graph.add("MatMul", [query, key]), root])
        context = graph.add("MatMul", [graph.add("Softmax", [scores], axis=-1), value])
        context = graph.add("Reshape", [graph.add("Transpose", [context], perm=[0, 2, 1, 3]), joined])
        x = normalised(graph.add("Add", [x, dense(context, width, width)]))
        y = dense(x, width, wide)
        error = graph.add("Add", [graph.add("Erf", [graph.add("Div", [y, two])]), one])
        y = graph.add("Mul", [graph.add("Mul", [y, error]), half])
        x = normalised(graph.add("Add", [x, dense(y, wide, width)]))
    graph.add("ReduceMean", [x], "y", axes=[1], keepdims=0)
    graph.save(path, ["n", tokens], ["n", width], TensorProto.INT64)


def forest(path, version):
    """A random forest of 100 trees, three classes of twenty numbers."""
    import skl2onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    x, y = make_classification(600, 20, n_informative=8, n_classes=3, random_state=version)
    trees = RandomForestClassifier(100, max_depth=8, random_state=version).fit(x.astype(numpy.float32), y)
    model = skl2onnx.to_onnx(trees, x[:1].astype(numpy.float32), options={"zipmap": False}, target_opset=17)
    path.write_bytes(model.SerializeToString())


model, directory = sys.argv[1:]
for version in (1, 2):
    write = {"big": big, "resnet": resnet, "mobilenet": mobilenet, "minilm": minilm, "forest": forest}[model]
    write(pathlib.Path(directory) / f"{model}-{version}.onnx", version)
