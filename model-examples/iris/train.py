"""Trains a logistic regression on Fisher's iris data, writes it as an MLflow package and logs it.

The same versions of the libraries give the same bytes of `model.onnx`.
"""

import argparse
import sys
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convert_package import OPSETS, tidy, write_package  # noqa: E402

# The input is unnamed: a request is a plain list of rows.
SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 4))]),
    outputs=Schema(
        [
            TensorSpec(np.dtype(np.int64), (-1,), "label"),
            TensorSpec(np.dtype(np.float32), (-1, 3), "probabilities"),
        ]
    ),
)


def train(regularisation):
    """Fits the model; returns it with its accuracy on rows that it has not seen and one example of each species."""
    iris = load_iris()
    features = iris.data.astype(np.float32)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        features, iris.target, test_size=0.2, random_state=0, stratify=iris.target
    )
    model = LogisticRegression(C=regularisation, max_iter=1000).fit(seen, seen_labels)
    return model, model.score(unseen, unseen_labels), iris.data[[0, 50, 100]]


def convert(model):
    """Converts to ONNX: probabilities as one tensor instead of a list of maps."""
    onnx_model = to_onnx(
        model,
        name="iris",  # the default name is random
        initial_types=[("features", FloatTensorType([None, 4]))],
        options={id(model): {"zipmap": False}},
        target_opset=OPSETS,
    )
    return tidy(onnx_model)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("package"))
    parser.add_argument("--regularisation", type=float, default=1.0)
    parser.add_argument("--register", metavar="NAME", help="register the model under this name")
    arguments = parser.parse_args()

    model, accuracy, example = train(arguments.regularisation)
    package = {
        "onnx_model": convert(model),
        "signature": SIGNATURE,
        "input_example": example,
        "onnx_execution_providers": ["CPUExecutionProvider"],
    }
    # `mlflow run` has already made a run: this joins it.
    with mlflow.start_run():
        mlflow.log_param("regularisation", arguments.regularisation)
        mlflow.log_metric("accuracy", accuracy)
        mlflow.set_tag("model.onnx.sha256", write_package(arguments.output, **package))
        mlflow.onnx.log_model(name="iris", registered_model_name=arguments.register, **package)
    print(f"accuracy on unseen rows: {accuracy:.3f}")


if __name__ == "__main__":
    main()
