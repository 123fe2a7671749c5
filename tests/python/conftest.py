"""The binary to test, and a real MLflow server that all tests share."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# Else a server starts eight processes for jobs that no test has, each of which imports MLflow.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


def pytest_configure():
    """Names the entry points that the wheel installs, under which MLflow finds the plugin."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    directory = Path(tempfile.mkdtemp(prefix="onstage-installed-"))
    installed = directory / "onstage-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: onstage\nVersion: 0\n")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("\n".join(groups))
    sys.path.append(str(directory))


def pytest_addoption(parser):
    parser.addoption("--binary", required=True, help="the `onstage` to test")


@pytest.fixture(scope="session", autouse=True)
def binary(request):
    path = Path(request.config.getoption("--binary")).resolve()
    assert path.is_file(), f"{path} is not there: build it first"
    os.environ["PATH_TO_ONSTAGE"] = str(path)
    return path


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """The address of an MLflow server with a database and artifacts of its own."""
    import mlflow

    home = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts")]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, start_new_session=True)
        try:
            wait(f"http://127.0.0.1:{port}/health", process, home / "log")
            mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def wait(url, process, log):
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"MLflow did not start:\n{log.read_text()[-3000:]}")
