"""`log_model`, in the form of MLflow's own."""

from __future__ import annotations

from typing import Any


def log_model(
    model: Any,
    name: str = "model",
    *,
    data: Any = None,
    signature: Any = None,
    input_example: Any = None,
    registered_model_name: str | None = None,
    **options: Any,
) -> Any:
    """Converts a trained model and logs the ONNX package to the active run, as `mlflow.onnx.log_model` does.

    Takes a fitted estimator, a booster, a module of PyTorch, or a URI. `data` are rows to compare on, `signature` and
    `input_example` as in MLflow. With `registered_model_name` it becomes a version of that model. Gives MLflow's
    `ModelInfo`. Nothing is logged unless the converted model answers as the original does.
    """
    from onstage._convert import make
    from onstage._convert.package import log

    converted = make(model, data, signature=signature, example=input_example)
    return log(converted, name, registered_model_name=registered_model_name, **options)
