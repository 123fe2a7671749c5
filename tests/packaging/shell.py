"""Runs the real tools, and asks servers over HTTP."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm/onstage"
IRIS = ROOT / "model-examples/iris"
REQUEST = b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'


def run(*command, fails=False, **options):
    """What a command prints on both streams; it must succeed, or fail where that is expected; `None` takes both."""
    options = {"stdin": subprocess.DEVNULL, "timeout": 600, **options}
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    assert fails is None or (done.returncode != 0) == fails, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@contextlib.contextmanager
def process(*command, log, **options):
    """A process that runs meanwhile; only it is ended."""
    with Path(log).open("w") as output:
        started = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(60)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(address, path, body=None, headers=None):
    """Status and body of an answer; `address` is `host:port`."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(f"http://{address}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def predicts(address, path="/invocations"):
    """Whether the iris model answers as it should."""
    status, answer = ask(address, path, REQUEST)
    assert status == 200, answer
    return json.loads(answer)["predictions"]["label"] == [0]


def until(question, what, seconds=60):
    """The first true answer to `question`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if answer := question():
                return answer
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s")


def ready(address):
    """Waits until a server says that it is ready."""
    until(lambda: ask(address, "/v2/health/ready")[0] == 200, f"{address} is ready")


def environment(**changes):
    """This process's environment without what would tell onstage anything, and with changes."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ONSTAGE_", "MLFLOW_", "AIP_", "ORT_"))}
    return {**kept, **{key: str(value) for key, value in changes.items()}}
