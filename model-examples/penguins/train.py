"""Trains a classifier on the Palmer penguins, writes it as an MLflow package and logs it.

The pipeline (imputation, scaling, one-hot encoding) is part of the graph: a request holds the raw columns.
The same versions of the libraries give the same bytes of `model.onnx`.
"""

import argparse
import sys
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from palmerpenguins import load_penguins
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convert_package import OPSETS, tidy, write_package  # noqa: E402

TEXTS = ["island", "sex"]
NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]

# One graph input per column.
SIGNATURE = ModelSignature(
    inputs=Schema(
        [TensorSpec(np.dtype(str), (-1, 1), name) for name in TEXTS]
        + [TensorSpec(np.dtype(np.float32), (-1, 1), name) for name in NUMBERS]
    ),
    outputs=Schema(
        [
            TensorSpec(np.dtype(str), (-1,), "label"),
            TensorSpec(np.dtype(np.float32), (-1, 3), "probabilities"),
        ]
    ),
)


def load():
    """The columns that the model sees, and the species. An unknown sex is the empty text; numbers may be missing."""
    penguins = load_penguins()
    columns = penguins[TEXTS].fillna("").astype(object)
    columns[NUMBERS] = penguins[NUMBERS].astype(np.float32)
    return columns, penguins["species"].to_numpy(dtype=object)


def train(regularisation):
    """Fits the pipeline; returns it with its accuracy on birds that it has not seen and one bird of each species."""
    columns, species = load()
    seen, unseen, seen_species, unseen_species = train_test_split(
        columns, species, test_size=0.2, random_state=0, stratify=species
    )
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
                ("texts", OneHotEncoder(handle_unknown="ignore"), TEXTS),
            ]
        ),
        LogisticRegression(C=regularisation, max_iter=1000),
    ).fit(seen, seen_species)
    birds = load_penguins().loc[[0, 152, 276]]
    example = {name: birds[[name]].to_numpy(str if name in TEXTS else float) for name in columns}
    return model, model.score(unseen, unseen_species), example


def convert(model):
    """Converts to ONNX: probabilities as one tensor instead of a list of maps."""
    onnx_model = to_onnx(
        model,
        name="penguins",  # the default name is random
        initial_types=[(name, StringTensorType([None, 1])) for name in TEXTS]
        + [(name, FloatTensorType([None, 1])) for name in NUMBERS],
        options={id(model): {"zipmap": False}},
        target_opset=OPSETS,
    )
    return tidy(onnx_model)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("package"))
    parser.add_argument("--regularisation", type=float, default=1.0)
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
        mlflow.onnx.log_model(name="penguins", **package)
    print(f"accuracy on unseen rows: {accuracy:.3f}")


if __name__ == "__main__":
    main()
