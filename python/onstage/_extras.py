"""The packages that belong to extras, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from onstage.errors import MissingPackageError

# Which extra brings a package.
EXTRAS = {
    "sklearn": "sklearn",
    "skl2onnx": "sklearn",
    "skops": "sklearn",
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    "catboost": "catboost",
    "torch": "torch",
    "onnxscript": "torch",
}


def need(module: str, extra: str = "sklearn") -> Any:
    """The module, or an error with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise missing_package(missing, extra) from missing


def missing_package(missing: ModuleNotFoundError, extra: str) -> MissingPackageError:
    """The error for a module that is not there: one of an extra, or one that the model brings."""
    name = (missing.name or "?").split(".")[0]
    ours = name in {"mlflow", "onnx", "onnxmltools", "pandas", "numpy", *EXTRAS}
    line = f"'onstage[{EXTRAS.get(name, extra)}]'" if ours else name
    return MissingPackageError(
        f"the Python package `{name}` is not installed",
        f"pip install {line}" if ours else f"the model needs it, in the version of its training: pip install {line}",
    )
