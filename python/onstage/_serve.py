"""A server for notebooks and tests: started, waited for, and ended with the block."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from onstage._client import Client
from onstage.errors import StartError

# The line of the start that names the port; addresses of registries stand in others.
ADDRESS = re.compile(r"^\s*HTTP\s+(https?://\S+)")


def binary() -> str:
    """The program: `PATH_TO_ONSTAGE`, the one beside this Python, or the one of the path."""
    given = os.environ.get("PATH_TO_ONSTAGE")
    beside = Path(sys.executable).parent / ("onstage.exe" if os.name == "nt" else "onstage")
    found = given or (str(beside) if beside.is_file() else shutil.which("onstage"))
    if not found or not Path(found).is_file():
        raise StartError(
            f"the program `{given or 'onstage'}` was not found",
            "install it with `pip install onstage`, or set PATH_TO_ONSTAGE",
        )
    return found


@contextlib.contextmanager
def serve(
    *targets: str | Path,
    registry: str | None = None,
    options: list[str] | None = None,
    model: str | None = None,
    start_timeout: float = 60.0,
) -> Iterator[Client]:
    """Serves packages until the block ends; gives a `Client`.

    `targets`: paths or `models:/NAME/VERSION`, `models:/NAME@ALIAS`; for these `registry` names the registry, or
    `MLFLOW_REGISTRY_URI` and `MLFLOW_TRACKING_URI` do. `options`: more of `onstage serve`, such as `["--engine", "tract"]`.
    `model` is the one that the client asks, when there are several. The server listens on a free port of this machine.
    """
    if not targets:
        raise StartError("there is nothing to serve", 'name a package: `onstage.serve("models:/fraud@champion")`')
    command = [binary(), "serve", *map(str, targets), "--port", "0", "--no-grpc"]
    command += ["--registry", registry] if registry else []
    command += options or []
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = start(command, log)
        try:
            client = Client(address(process, log, start_timeout), model=model)
            wait(client, process, log, start_timeout)
            yield client
        finally:
            stop(process)


def start(command: list[str], log: IO[str]) -> subprocess.Popen[str]:
    """Starts the program, its messages in a file."""
    environment = {**os.environ}
    library = onnxruntime()
    if library and "ORT_DYLIB_PATH" not in environment:
        environment["ORT_DYLIB_PATH"] = library
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    except OSError as cause:
        raise StartError(f"`{command[0]}` cannot be run: {cause}") from cause


def onnxruntime() -> str | None:
    """The library of the package `onnxruntime` of this Python, without importing it."""
    import importlib.util

    found = importlib.util.find_spec("onnxruntime")
    for place in (found.submodule_search_locations or []) if found else []:
        for library in sorted(Path(place, "capi").glob("libonnxruntime.*")):
            if ".so" in library.name or ".dylib" in library.name:
                return str(library)
    return None


def address(process: subprocess.Popen[str], log: IO[str], seconds: float) -> str:
    """The address that the server prints; the rest of what it prints is read and dropped."""
    found: list[str] = []
    there = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            match = ADDRESS.search(line)
            if match and not found:
                found.append(match.group(1).rstrip("/"))
                there.set()
        there.set()

    threading.Thread(target=read, daemon=True).start()
    there.wait(seconds)
    if not found:
        raise failed(process, log, seconds)
    return found[0]


def wait(client: Client, process: subprocess.Popen[str], log: IO[str], seconds: float) -> None:
    """Waits until the server is ready."""
    end = time.monotonic() + seconds
    while not client.ready():
        if process.poll() is not None or time.monotonic() > end:
            raise failed(process, log, seconds)
        time.sleep(0.05)


def failed(process: subprocess.Popen[str], log: IO[str], seconds: float) -> StartError:
    """The error with the server's own last words."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    log.seek(0)
    said = log.read().strip()[-4000:]
    code = process.poll()
    why = f"was not ready after {seconds:g} s" if code is None else f"ended with code {code}"
    return StartError(f"`onstage serve` {why}:\n{said}")


def stop(process: subprocess.Popen[Any]) -> None:
    """Ends the server, gently if it can be."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
