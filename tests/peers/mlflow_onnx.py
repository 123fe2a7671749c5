"""What MLflow's `tests/onnx` checks: what `mlflow.onnx` of the installed version saves, onstage serves as its pyfunc predicts."""

import json

import numpy as np
import pandas as pd
import pytest
from cases import send
from made import DOUBLE, FLOAT, Mlflow, heavy, product, save, two_tensors
from mlflow.models import infer_signature
from server import ROOT, Server

FRAME = pd.DataFrame(np.linspace(-1, 1, 12).reshape(3, 4), columns=["a", "b", "c", "d"])
ARRAY = FRAME.to_numpy(np.float32)
COLUMNS = pd.DataFrame({"first_input:0": [0.5, -1.25], "second_input:0": [3.0, 1e-3]})
OPTIONS = {"execution_mode": "sequential", "graph_optimization_level": 99, "intra_op_num_threads": 19}
SIGNED = infer_signature(FRAME, np.zeros((3, 1), np.float32))
TENSORS = infer_signature(ARRAY, np.zeros((3, 1), np.float32))

# What is given to `mlflow.onnx.save_model`, and what is asked.
HEAVY = {
    "as it is": {},
    "weights in the graph": {"save_as_external_data": False},
    "a signature": {"signature": SIGNED},
    "a signature of tensors": {"signature": TENSORS},
    "an example": {"input_example": FRAME.head(2)},
    "an example that is an array": {"input_example": ARRAY},
    "a signature and an example": {"signature": SIGNED, "input_example": FRAME.head(2)},
    "options of the session": {"onnx_session_options": OPTIONS},
    "one provider": {"onnx_execution_providers": ["CPUExecutionProvider"]},
    "two providers": {"onnx_execution_providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]},
    "metadata": {"metadata": {"metadata_key": "metadata_value", "nested": {"a": [1, None]}}},
    "code beside it": {"code_paths": [__file__]},
}
OTHERS = {
    "two columns of doubles": (lambda: product(DOUBLE), {}),
    "two columns of doubles, weights in the graph": (lambda: product(DOUBLE), {"save_as_external_data": False}),
    "two columns of singles": (lambda: product(FLOAT), {}),
    "two tensors": (two_tensors, {}),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("packages")
    for name, options in HEAVY.items():
        save(directory, name, heavy(), **options)
    for name, (model, options) in OTHERS.items():
        save(directory, name, model(), **options)
    return directory


@pytest.fixture(scope="module")
def mlflow(packages):
    return Mlflow(packages)


@pytest.fixture(scope="module", params=["onnxruntime", "tract"])
def onstage(binary, packages, request):
    with Server(binary, [packages, "--engine", request.param]) as running:
        yield running


def ask(server, name, body):
    path = f"/models/{name.replace(' ', '%20')}/invocations"
    return send(server.http, "POST", path, body, {"Content-Type": "application/json"})


def predicted(server, name, body):
    answer = ask(server, name, body)
    assert answer.status == 200, answer.body
    return answer.json["predictions"]


def frame(data):
    return {"dataframe_split": json.loads(data.to_json(orient="split", index=False))}


@pytest.mark.parametrize("name", HEAVY)
def test_what_is_saved_is_served(onstage, mlflow, packages, name):
    if name != "weights in the graph":
        assert list((packages / name).rglob("*.data")), "no weights in a file of their own: this tests nothing"
    model = mlflow.model(name)
    if name != "a signature of tensors":
        found = [row["y"] for row in predicted(onstage, name, frame(FRAME))]
        assert np.allclose(found, model.predict(FRAME)["y"], rtol=1e-5, atol=1e-5)
    if name not in ["a signature", "a signature and an example", "an example"]:
        found = predicted(onstage, name, {"inputs": ARRAY.tolist()})["y"]
        assert np.allclose(found, model.predict(ARRAY)["y"], rtol=1e-5, atol=1e-5)
        # A tensor without a name in the signature has none in a request.
        if name != "a signature of tensors":
            assert np.allclose(predicted(onstage, name, {"inputs": {"x": ARRAY.tolist()}})["y"], found)


@pytest.mark.parametrize("name", [name for name in OTHERS if name.startswith("two columns")])
def test_columns_are_inputs_by_their_names(onstage, mlflow, name):
    found = [row["product"] for row in predicted(onstage, name, frame(COLUMNS))]
    assert np.allclose(found, mlflow.model(name).predict(COLUMNS)["product"], rtol=1e-5)


def test_doubles_become_singles_and_whole_numbers_do_not(onstage, mlflow):
    whole = COLUMNS.astype("int64")
    with pytest.raises(Exception, match="Unexpected input data type"):
        mlflow.model("two columns of singles").predict(whole)
    answer = ask(onstage, "two columns of singles", frame(whole))
    assert answer.status == 400 and "has datatype INT64, expected FP32" in answer.json["message"]


def test_tensors_by_name_but_no_array_for_two_of_them(onstage, mlflow):
    tensors = {"a": ARRAY[:, :2], "b": ARRAY[:, 2:]}
    found = predicted(onstage, "two tensors", {"inputs": {name: array.tolist() for name, array in tensors.items()}})
    assert np.allclose(found["both"], mlflow.model("two tensors").predict(tensors)["both"])
    with pytest.raises(Exception, match="Unable to map numpy array input"):
        mlflow.model("two tensors").predict(ARRAY)
    answer = ask(onstage, "two tensors", {"inputs": ARRAY.tolist()})
    assert answer.status == 400 and "Unable to map numpy array input" in answer.json["message"]


def test_a_list_of_scores_by_class_is_served(binary, tmp_path):
    # The outputs of a converted classifier are a tensor and a list of objects.
    import onnx

    save(tmp_path, "scores", onnx.load(ROOT / "tests/conformance/mlflow/models/iris_zipmap/model.onnx"))
    data = pd.DataFrame([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]])
    expected = Mlflow(tmp_path).model("scores").predict(data)
    with Server(binary, [tmp_path / "scores", "--engine", "onnxruntime"]) as server:
        found = predicted(server, "scores", frame(data))
    assert [row["output_label"] for row in found] == expected["output_label"].tolist()
    for row, scores in zip(found, expected["output_probability"], strict=True):
        assert np.allclose([row["output_probability"][str(label)] for label in scores], list(scores.values()), atol=1e-5)
