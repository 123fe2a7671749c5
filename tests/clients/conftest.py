"""The real binary with models of every kind, for the clients."""

import os
import shutil
from pathlib import Path

import pytest
from server import ROOT, Server

TWICE = ROOT / "tests/models"
# Two processes share the files: the longest come first, so that neither ends long after the other.
LONGEST = ["schema_paths.py", "perf_runs.py"]


def pytest_addoption(parser):
    parser.addoption("--binary", required=True, help="the `onstage` to test")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def binary(request):
    path = Path(request.config.getoption("--binary")).resolve()
    assert path.is_file(), f"{path} is not there: build it first"
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A directory of models: iris, a ZipMap, and one per element type that gives its rows twice."""
    directory = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model-examples/iris", directory / "iris")
    for file in [*sorted(TWICE.glob("twice_*.onnx")), TWICE / "zip_map_text.onnx"]:
        version = directory / file.stem / "1"
        version.mkdir(parents=True)
        shutil.copy(file, version / "model.onnx")
    shutil.copytree(directory / "twice_float32" / "1", directory / "twice_float32" / "2")
    return directory


@pytest.fixture(scope="session")
def server(binary, models, tmp_path_factory):
    """One server for all tests that change nothing in it."""
    token = tmp_path_factory.mktemp("secrets") / "token"
    token.write_text("a token of the tests")
    assert os.environ.get("ORT_DYLIB_PATH"), "`ORT_DYLIB_PATH` names no libonnxruntime: use `make test-clients`"
    arguments = [models, "--engine", "onnxruntime", "--default-model", "iris"]
    arguments += ["--admin-port", "0", "--admin-token-file", token]
    with Server(binary, arguments) as running:
        running.token = token.read_text()
        yield running
