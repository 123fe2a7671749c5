"""onstage: serves MLflow packages with ONNX weights, and makes them of the models that people have.

    import onstage

    onstage.convert("models:/fraud/3", register="fraud")
    with onstage.serve("models:/fraud@champion") as client:
        client.predict(frame)

Importing this package costs next to nothing: what is heavy is imported by the function that needs it.
"""

from onstage.errors import (
    ConversionError,
    MissingPackageError,
    OnstageError,
    ParityError,
    RegistryError,
    RequestError,
    ServerError,
    StartError,
)

# As that of `typing`, which takes milliseconds to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from onstage._client import Client
    from onstage._convert import convert
    from onstage._log import log_model
    from onstage._serve import serve

__all__ = [
    "Client",
    "ConversionError",
    "MissingPackageError",
    "OnstageError",
    "ParityError",
    "RegistryError",
    "RequestError",
    "ServerError",
    "StartError",
    "convert",
    "log_model",
    "serve",
]

_HOMES = {"Client": "_client", "convert": "_convert", "log_model": "_log", "serve": "_serve"}


def __getattr__(name: str) -> object:
    """Imports what is asked for."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module `onstage` has no attribute `{name}`")
    return getattr(importlib.import_module(f"onstage.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
