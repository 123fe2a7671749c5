"""Models of scikit-learn, as the scikit-learn flavor of MLflow serves them and as ONNX graphs."""

from dataclasses import dataclass, field

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SPECIES = np.array(["setosa", "versicolor", "virginica"])
BOTH = ["predict", "predict_proba"]


@dataclass
class Model:
    name: str
    estimator: object
    columns: int
    target: object
    settings: list = field(default_factory=lambda: BOTH)
    options: dict = field(default_factory=dict)


def iris():
    features, classes = load_iris(return_X_y=True)
    return features, classes


def width(features, classes):
    return features[:, 3]


def petals(features, classes):
    return features[:, 2:]


WITHOUT = {"zipmap": False}
MODELS = [
    Model("sk_logreg", LogisticRegression(max_iter=500), 4, lambda x, y: y, BOTH, WITHOUT),
    Model("sk_logreg_text", LogisticRegression(max_iter=500), 4, lambda x, y: SPECIES[y], BOTH, {"zipmap": True}),
    Model("sk_binary", RandomForestClassifier(n_estimators=3, max_depth=2, random_state=0), 4, lambda x, y: (y == 1).astype(int), BOTH, {"zipmap": True}),
    Model("sk_forest", RandomForestRegressor(n_estimators=3, max_depth=3, random_state=0), 3, width, ["predict"]),
    Model("sk_two_targets", RandomForestRegressor(n_estimators=3, max_depth=3, random_state=0), 2, petals, ["predict"]),
    Model("sk_linear", LinearRegression(), 3, width, ["predict"]),
    Model("sk_outliers", IsolationForest(n_estimators=3, max_samples=16, random_state=0), 4, lambda x, y: None, ["predict"]),
]


def fit(model):
    features, classes = iris()
    table = pd.DataFrame(features[:, : model.columns], columns=NAMES[: model.columns])
    return model.estimator.fit(table, model.target(features, classes))


def signature(model, fitted):
    table = rows(model)
    return infer_signature(table, fitted.predict(table))


def rows(model):
    features, _ = iris()
    return pd.DataFrame(features[[0, 60, 120, 77], : model.columns], columns=NAMES[: model.columns])


def write(path, model, fitted):
    """The package of the ONNX flavor."""
    if path.exists():
        return
    graph = to_onnx(
        fitted,
        initial_types=[("X", FloatTensorType([None, model.columns]))],
        options={id(fitted): model.options} if model.options else None,
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    mlflow.onnx.save_model(
        graph,
        path,
        signature=signature(model, fitted),
        pip_requirements=["mlflow"],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )


def write_original(path, model, fitted, method):
    """The package of the scikit-learn flavor, whose answers are recorded."""
    mlflow.sklearn.save_model(
        fitted,
        path,
        signature=signature(model, fitted),
        pip_requirements=["mlflow"],
        pyfunc_predict_fn=method,
        serialization_format="cloudpickle",
    )


def requests(model):
    table = rows(model)
    split = table.to_dict(orient="split", index=False)
    one = table.iloc[[1]].to_dict(orient="split", index=False)
    records = table.to_dict(orient="records")
    return [
        ("split", {"dataframe_split": split}, "application/json"),
        ("one_row", {"dataframe_split": one}, "application/json"),
        ("records", {"dataframe_records": records}, "application/json"),
        ("instances", {"instances": records}, "application/json"),
        ("inputs", {"inputs": table.to_dict(orient="list")}, "application/json"),
        ("csv", table.to_csv(index=False), "text/csv"),
        ("missing_column", {"dataframe_split": {"columns": split["columns"][1:], "data": [row[1:] for row in split["data"]]}}, "application/json"),
    ]
