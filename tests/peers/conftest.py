"""The real binary with the models that stand for those of the peers' tests."""

import os
import shutil
from pathlib import Path

import pytest
from server import ROOT, Server

HERE = Path(__file__).resolve().parent


def pytest_addoption(parser):
    parser.addoption("--binary", required=True, help="the `onstage` to test")


@pytest.fixture(scope="session")
def binary(request):
    path = Path(request.config.getoption("--binary")).resolve()
    assert path.is_file(), f"{path} is not there: build it first"
    assert os.environ.get("ORT_DYLIB_PATH"), "`ORT_DYLIB_PATH` names no libonnxruntime: use `make test-peers`"
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A tree of models as Triton and TensorFlow Serving have it; `half_plus_two` has the versions 1 and 123."""
    tree = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "model-examples/iris", tree / "iris")
    for file in sorted((HERE / "models").glob("*.onnx")):
        versions = ["1", "123"] if file.stem == "half_plus_two" else ["1"]
        for version in versions:
            place = tree / file.stem / version
            place.mkdir(parents=True)
            shutil.copy(file, place / "model.onnx")
    return tree


@pytest.fixture(scope="session")
def server(binary, models, tmp_path_factory):
    """One server for all cases that change nothing in it, with a listener that may load and unload."""
    token = tmp_path_factory.mktemp("secrets") / "token"
    token.write_text("a token of the tests")
    arguments = [models, "--engine", "onnxruntime", "--default-model", "iris", "--nonfinite", "bare"]
    arguments += ["--admin-port", "0", "--admin-token-file", token]
    with Server(binary, arguments) as running:
        running.token = token.read_text()
        yield running
