"""What can go wrong. Every error of this package is an `OnstageError`."""

from __future__ import annotations

# As that of `typing`, which takes milliseconds to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class OnstageError(Exception):
    """What is wrong, and what to do about it.

    `message` says what, where, and what was expected; `hint` what would help, where that is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class ConversionError(OnstageError):
    """A model that cannot be converted."""


class ParityError(ConversionError):
    """A converted model that does not answer as the original does; `report` is what `parity.json` would hold."""

    def __init__(self, message: str, hint: str | None = None, report: dict[str, Any] | None = None) -> None:
        super().__init__(message, hint)
        self.report = report or {}


class MissingPackageError(OnstageError):
    """A Python package that is needed here and not installed."""


class RegistryError(OnstageError):
    """A registry that cannot be read or does not take a version."""


class StartError(OnstageError):
    """A server that did not start."""


class RequestError(OnstageError):
    """A request that the server refused, or did not answer; `status` is that of HTTP, or none."""

    def __init__(self, message: str, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint)
        self.status = status


class ServerError(RequestError):
    """A fault of the server: status 5xx, or no answer at all."""
