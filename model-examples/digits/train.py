"""Trains a small convolutional net on scikit-learn's 8x8 digits, writes it as an MLflow package and logs it.

The net is trained by NumPy alone, in float64, and its graph is built operator by operator: no deep-learning library is
needed. The same versions of the libraries on the same processor give the same bytes of `model.onnx`.
"""

import argparse
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convert_package import OPSETS, Converted, requirements  # noqa: E402

FILTERS = 12
BATCH = 36

SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, 8, 8), "image")]),
    outputs=Schema(
        [
            TensorSpec(np.dtype(np.int64), (-1,), "label"),
            TensorSpec(np.dtype(np.float32), (-1, 10), "probabilities"),
        ]
    ),
)


def load():
    """Images `[n, 1, 8, 8]` with grey values from 0 to 1, and their digits; a fifth of them is not trained on."""
    digits = load_digits()
    images = (digits.images / 16.0)[:, None]
    return train_test_split(images, digits.target, test_size=0.2, random_state=0, stratify=digits.target)


def initial():
    random = np.random.default_rng(0)
    return {
        "filters": random.normal(0, (2 / 9) ** 0.5, (FILTERS, 1, 3, 3)),
        "filter_bias": np.zeros(FILTERS),
        "weights": random.normal(0, (1 / (FILTERS * 16)) ** 0.5, (FILTERS * 16, 10)),
        "bias": np.zeros(10),
    }


def forward(net, images):
    """The probabilities, and what the backward pass needs: patches, filter responses, chosen pixels, pooled values."""
    padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    patches = sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(len(images), 8, 8, 9)
    found = patches @ net["filters"].reshape(FILTERS, 9).T + net["filter_bias"]
    # Squares of 2x2 pixels, in the order of ONNX: filters first.
    squares = (
        np.maximum(found, 0).reshape(-1, 4, 2, 4, 2, FILTERS).transpose(0, 5, 1, 3, 2, 4).reshape(-1, FILTERS, 4, 4, 4)
    )
    flat = squares.max(axis=-1).reshape(len(images), -1)
    scores = flat @ net["weights"] + net["bias"]
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    return likely / likely.sum(axis=1, keepdims=True), (patches, found, squares.argmax(axis=-1), flat)


def gradients(net, images, digits):
    """How the cross-entropy changes with each parameter."""
    likely, (patches, found, chosen, flat) = forward(net, images)
    scores = (likely - np.eye(10)[digits]) / len(images)
    pooled = (scores @ net["weights"].T).reshape(-1, FILTERS, 4, 4)
    squares = np.zeros((*pooled.shape, 4))
    np.put_along_axis(squares, chosen[..., None], pooled[..., None], axis=-1)
    pixels = squares.reshape(-1, FILTERS, 4, 4, 2, 2).transpose(0, 2, 4, 3, 5, 1).reshape(found.shape) * (found > 0)
    return {
        "filters": np.einsum("nijf,nijp->fp", pixels, patches).reshape(net["filters"].shape),
        "filter_bias": pixels.sum(axis=(0, 1, 2)),
        "weights": flat.T @ scores,
        "bias": scores.sum(axis=0),
    }


def train(epochs):
    """Fits the net by gradient descent with momentum; returns it with its accuracy on images that it has not seen."""
    seen, unseen, seen_digits, unseen_digits = load()
    net, order = initial(), np.random.default_rng(1)
    speed = {name: np.zeros_like(values) for name, values in net.items()}
    for epoch in range(epochs):
        for rows in np.array_split(order.permutation(len(seen)), len(seen) // BATCH):
            for name, gradient in gradients(net, seen[rows], seen_digits[rows]).items():
                speed[name] = 0.9 * speed[name] - 0.1 * 0.95**epoch * gradient
                net[name] = net[name] + speed[name]
    return net, float((forward(net, unseen)[0].argmax(axis=1) == unseen_digits).mean()), unseen


def build(net):
    """The net as an ONNX graph, in float32."""
    nodes = [
        helper.make_node(
            "Conv", ["image", "filters", "filter_bias"], ["responses"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["responses"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
        ],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in net.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSETS[""])], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("package"))
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()

    net, accuracy, unseen = train(arguments.epochs)
    example = {"image": unseen[:3].astype(np.float32)}
    package = {
        "onnx_model": build(net),
        "signature": SIGNATURE,
        "input_example": example,
        "pip_requirements": requirements(),
        "onnx_execution_providers": ["CPUExecutionProvider"],
        "save_as_external_data": False,
    }
    converted = Converted(package, {"inputs": {"image": example["image"].tolist()}})
    # `mlflow run` has already made a run: this joins it.
    with mlflow.start_run():
        mlflow.log_param("epochs", arguments.epochs)
        mlflow.log_metric("accuracy", accuracy)
        mlflow.set_tag("model.onnx.sha256", converted.save(arguments.output))
        mlflow.onnx.log_model(name="digits", **package)
    print(f"accuracy on unseen images: {accuracy:.3f}")


if __name__ == "__main__":
    main()
