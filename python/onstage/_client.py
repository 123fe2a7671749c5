"""A client for `/invocations` that takes what data scientists have: frames and arrays."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from onstage.errors import RequestError, ServerError


class Client:
    """Predictions of a running server.

    `url`: where it listens, for example `http://127.0.0.1:8080`. `model` picks one of several models, and `version` or
    `alias` one of its versions; without them the server's default model answers. `token`: an API key, where the server
    asks who its callers are. `timeout` in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        version: str | int | None = None,
        alias: str | None = None,
        token: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise RequestError(f"`{url}` is no address of a server", "expected `http://HOST:PORT`")
        if (version is not None or alias is not None) and model is None:
            raise RequestError("a version or an alias without a model", "name the model: `Client(url, model=…)`")
        if version is not None and alias is not None:
            raise RequestError("a version and an alias at once", "name one of the two")
        self.url = url.rstrip("/")
        self.token = token
        self.timeout = timeout
        self._path = path_of(model, version, alias)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """What the model says to a frame, an array, a dictionary of columns, or a list of rows.

        Gives the content of `predictions`. Raises `RequestError` for a request that is refused, and `ServerError` where
        the fault is not the caller's.
        """
        body = request_of(data)
        if params:
            body["params"] = params
        return self.invoke(body)

    def invoke(self, body: dict[str, Any]) -> Any:
        """Sends a request of MLflow's form as it is; gives the content of `predictions`."""
        found = self._send("POST", self._path, json.dumps(plain(body)).encode())
        if not isinstance(found, dict) or "predictions" not in found:
            raise ServerError(f"{self.url}{self._path} answered without `predictions`: {str(found)[:200]}")
        return found["predictions"]

    def models(self) -> list[dict[str, Any]]:
        """The models of the server, each version with its state."""
        found = self._send("POST", "/v2/repository/index", b"{}")
        return list(found)

    def ready(self) -> bool:
        """Whether the server is ready."""
        try:
            self._send("GET", "/v2/health/ready", None)
        except RequestError:
            return False
        return True

    def _send(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(f"{self.url}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                text = response.read()
        except urllib.error.HTTPError as refused:
            raise error_of(refused.code, refused.read(), f"{self.url}{path}") from None
        except (OSError, ValueError) as cause:
            reason = getattr(cause, "reason", cause)
            raise ServerError(f"{self.url} does not answer: {reason}", "is `onstage serve` running there?") from cause
        try:
            return json.loads(text) if text else {}
        except ValueError as cause:
            raise ServerError(f"{self.url}{path} answered no JSON: {text[:200]!r}") from cause


def path_of(model: str | None, version: str | int | None, alias: str | None) -> str:
    """The path of a model's predictions."""
    if model is None:
        return "/invocations"
    path = f"/models/{urllib.parse.quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{urllib.parse.quote(str(version), safe='')}"
    if alias is not None:
        path += f"/aliases/{urllib.parse.quote(alias, safe='')}"
    return f"{path}/invocations"


def request_of(data: Any) -> dict[str, Any]:
    """The body for a frame, an array, a dictionary, or a list."""
    if hasattr(data, "to_frame") and not hasattr(data, "columns"):
        data = data.to_frame()
    if hasattr(data, "columns") and hasattr(data, "itertuples"):
        columns = [str(name) for name in data.columns]
        rows = [list(row) for row in data.itertuples(index=False, name=None)]
        return {"dataframe_split": {"columns": columns, "data": rows}}
    if isinstance(data, (str, bytes)) or data is None:
        raise RequestError(f"a `{type(data).__name__}` is no data", "expected a frame, an array, a dictionary or a list")
    return {"inputs": data}


def plain(value: Any) -> Any:
    """Values as JSON: arrays as lists, missing ones as `null`, dates as texts."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else special(value)
    if hasattr(value, "tolist"):
        # numpy's arrays and numbers
        return plain(value.tolist())
    if hasattr(value, "isoformat"):
        return None if str(value) == "NaT" else value.isoformat()
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise RequestError(
        f"a value of the type `{type(value).__name__}` has no form in JSON",
        "expected numbers, booleans, texts or dates",
    )


def special(value: float) -> Any:
    """NaN is a missing value; an infinity cannot be sent."""
    if math.isnan(value):
        return None
    raise RequestError(f"the data hold `{value}`, which has no form in JSON", "replace infinities before you send them")


def error_of(status: int, body: bytes, where: str) -> RequestError:
    """The error that the server's answer tells of."""
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
        message = str(found.get("message") or found.get("error") or text) if isinstance(found, dict) else text
    except ValueError:
        message = text
    kind = ServerError if status >= 500 else RequestError
    return kind(f"{where} answered {status}: {message.strip()[:2000] or 'nothing'}", None, status)
