"""What MLflow's `tests/pyfunc/test_scoring_server.py` checks, of MLflow itself in the installed version and of onstage."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from cases import send
from made import DOUBLE, FLOAT, Mlflow, columns, dates, product, save, sums, two_tensors
from mlflow.models import ModelSignature
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array
from mlflow.version import VERSION
from server import Server

JSON, CSV = "application/json", "text/csv"
ROWS = [[5.0, 3.5], [1.5, 0.25]]
FRAME = pd.DataFrame(ROWS, columns=["m", "a"])
SPLIT = {"columns": ["m", "a"], "index": [0, 1], "data": ROWS}
RECORDS = FRAME.to_dict(orient="records")
NOT_ONE = "must be a JSON dictionary with exactly one of"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("packages")
    types = ["boolean", "integer", "long", "float", "double", "string"]
    typed = [ColSpec(name, name) for name in [*types, "binary", "datetime"]]
    save(directory, "plain", sums())
    save(directory, "typed", columns(), signature=ModelSignature(Schema(typed)))
    save(directory, "two", two_tensors())
    save(directory, "product", product(FLOAT))
    tensor = Schema([TensorSpec(np.dtype("float32"), (-1, 2))])
    listed = [ColSpec("double", "m"), ColSpec("double", "a"), ColSpec(Array(DataType.datetime), "at", required=False)]
    save(directory, "dates", product(DOUBLE, "m", "a"), signature=ModelSignature(Schema(listed)))
    save(directory, "dated", sums(), signature=ModelSignature(tensor, params=dates()))
    return directory


@pytest.fixture(scope="module")
def mlflow(packages):
    return Mlflow(packages)


@pytest.fixture(scope="module")
def onstage(binary, packages):
    arguments = [packages, "--engine", "onnxruntime", "--default-model", "plain", "--nonfinite", "bare"]
    with Server(binary, arguments) as running:
        yield running


@dataclass(frozen=True)
class Case:
    what: str
    model: str
    body: object
    content_type: str = JSON
    status: int = 200
    says: str = ""


# Bodies that are no request, or another than they say.
REFUSED = [
    Case("no JSON", "plain", "this is,,,, not valid json", status=400, says="Ensure that input is a valid JSON"),
    Case("a number", "plain", "1", status=400, says=NOT_ONE),
    Case("a text", "plain", '"1"', status=400, says=NOT_ONE),
    Case("a list", "plain", "[1]", status=400, says=NOT_ONE),
    Case("an unknown form", "plain", {"not": "a serialized dataframe"}, status=400, says=NOT_ONE),
    Case("two forms", "plain", {"dataframe_records": [], "dataframe_split": {"data": []}}, status=400, says=NOT_ONE),
    Case("records for split", "plain", {"dataframe_split": RECORDS}, status=400, says="must be a dictionary"),
    Case("split for records", "plain", {"dataframe_records": SPLIT}, status=400, says="must be a list of records"),
    Case(
        "an index of another length",
        "plain",
        {"dataframe_split": {"index": [1, 2], "data": [[1], [2], [3]]}},
        status=400,
        says="not a valid dataframe",
    ),
    Case("a frame of another width", "plain", {"dataframe_split": {"data": [[float(row)] for row in range(10)]}}, status=400),
    Case("an empty table", "plain", "", CSV, 400),
    Case("an unknown type of content", "plain", {"dataframe_split": SPLIT}, "not_a_supported_content_type", 415),
    Case("an unknown parameter of the type", "plain", {"dataframe_split": SPLIT}, f"{JSON}; something=something", 415),
    Case("another charset", "plain", {"dataframe_split": SPLIT}, f"{JSON}; charset=latin-1", 415),
]

# Forms of data that are served.
SERVED = [
    Case("records", "plain", {"dataframe_records": RECORDS}),
    Case("records with a charset", "plain", {"dataframe_records": RECORDS}, f"{JSON}; charset=UTF-8"),
    Case("split", "plain", {"dataframe_split": SPLIT}),
    Case("split with a charset", "plain", {"dataframe_split": SPLIT}, f"{JSON}; charset=UTF-8"),
    Case("a table", "plain", FRAME.to_csv(index=False), CSV),
    Case("a list of lists, as TensorFlow Serving has it", "plain", {"instances": ROWS}),
    Case("a list of objects, as TensorFlow Serving has it", "two", {"instances": [{"a": row, "b": row} for row in ROWS]}),
    Case("an object of lists, as TensorFlow Serving has it", "two", {"inputs": {"a": ROWS, "b": ROWS}}),
    Case("a member beside the data", "plain", {"dataframe_split": SPLIT, "signature_name": "serving_default"}),
]


def typed(**changed):
    row = {
        "boolean": True,
        "integer": 1,
        "long": 2**53 + 1,
        "float": math.pi,
        "double": 2 * math.pi,
        "binary": "AQID",
        "datetime": "2021-01-01T00:00:00",
        "string": "a",
    }
    return row | changed


def split(*rows):
    names = list(rows[0])
    return {"dataframe_split": {"columns": names, "data": [[row[name] for name in names] for row in rows]}}


SHUFFLED = dict(sorted(typed().items(), reverse=True))
LISTS = {name: [value] for name, value in typed().items()}
BAD = [
    typed(integer=9007199254740991.0, float=1.1, string=1, boolean=1.5),
    typed(integer=9007199254740992.0, float=9007199254740992.0, string=2, boolean=0),
    typed(integer=9007199254740994.0, float=3.3, string=3, boolean="some arbitrary string"),
]
PATHS = ["http://foo.com", "https://bar.com", "aaa://bbb", "address:/path"]

# Data under a signature: types, order, and what the casts of pandas make of values that do not fit.
TYPED = [
    Case("every type in split", "typed", split(typed(), typed(string="b", boolean=False))),
    Case("every type in records", "typed", {"dataframe_records": [typed(), typed(string="b")]}),
    Case("every type in inputs", "typed", {"inputs": LISTS}),
    Case("columns in another order", "typed", split(SHUFFLED)),
    Case("records in another order", "typed", {"dataframe_records": [SHUFFLED]}),
    Case("a column too many", "typed", split(typed(more=1))),
    Case(
        "a column that is missing",
        "typed",
        split({name: value for name, value in typed().items() if name != "long"}),
        status=400,
        says="long",
    ),
    Case("numbers that overflow, and what is no truth", "typed", split(*BAD)),
    Case("text that looks like a number", "typed", split(typed(string="95120"))),
    Case("text for a number", "typed", split(typed(double="text")), status=400),
    Case("no base64 for bytes", "typed", split(typed(binary="A")), status=400),
    Case("no date", "typed", split(typed(datetime="soon")), status=400),
    *[Case(f"an address for text: {path}", "typed", split(typed(string=path))) for path in PATHS],
]


def dated(**params):
    return {"inputs": ROWS} | ({"params": params} if params else {})


PARAMS = [
    Case("no params", "dated", dated()),
    Case("a date", "dated", dated(param1="2024-05-01")),
    Case("what is no date", "dated", dated(param1="invalid_value1"), status=400),
    Case("params that nobody knows", "dated", dated(invalid_param="value")),
    Case("params that are no object", "dated", {"inputs": ROWS, "params": 3}, status=400),
]

# tests/onnx: what reaches the graph.
GRAPHS = [
    Case(
        "columns by their names", "product", {"dataframe_split": {"columns": ["second_input:0", "first_input:0"], "data": ROWS}}
    ),
    Case(
        "a column that is the graph's and missing",
        "product",
        {"dataframe_split": {"columns": ["first_input:0"], "data": [[1.0]]}},
        status=400,
    ),
    Case(
        "whole numbers for floats",
        "product",
        {"dataframe_split": {"columns": ["first_input:0", "second_input:0"], "data": [[1, 2]]}},
        status=400,
        says="error while evaluating the model",
    ),
    Case("tensors of doubles for singles", "two", {"inputs": {"a": [[0.1, 0.2]], "b": [[0.3, 0.4]]}}),
    Case("a tensor that the graph does not take", "two", {"inputs": {"a": ROWS, "b": ROWS, "c": ROWS}}, status=400),
    Case("a tensor that is missing", "two", {"inputs": {"a": ROWS}}, status=400),
]

# Where onstage has another status than MLflow of any version, and why.
DIFFERENT = [
    (Case("an array for two inputs", "two", {"inputs": ROWS}, status=500), 400, "the request is at fault, not the server"),
]

# What 3.18 answers otherwise than 3.17, which onstage follows: status of 3.17, of 3.18.
CHANGED = [
    (Case("a null among truths", "typed", split(typed(), typed(boolean=None))), 200, 400),
    (Case("a null among truths, as inputs", "typed", {"inputs": LISTS | {"boolean": [None]}}), 200, 400),
    (
        Case(
            "a list of dates", "dates", {"dataframe_split": {"columns": ["m", "a", "at"], "data": [[1.0, 2.0, ["2024-05-01"]]]}}
        ),
        400,
        200,
    ),
]

CASES = [*REFUSED, *SERVED, *TYPED, *PARAMS, *GRAPHS]


def same(one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_of_the_scoring_servers_suite(onstage, mlflow, case):
    status, theirs = mlflow.ask(case.model, case.body, case.content_type)
    assert status == case.status, f"MLflow itself: {theirs}"
    answer = send(onstage.http, "POST", f"/models/{case.model}/invocations", case.body, {"Content-Type": case.content_type})
    assert answer.status == case.status, f"MLflow: {theirs[:500]}; onstage: {answer.body[:500]!r}"
    if case.status == 200:
        assert answer.headers["content-type"] == JSON
        assert same(json.loads(answer.body), json.loads(theirs)), f"MLflow: {theirs[:500]}; onstage: {answer.body[:500]!r}"
    elif case.status == 400:
        assert answer.json["error_code"] == json.loads(theirs)["error_code"]
        assert case.says in json.loads(theirs)["message"] and case.says in answer.json["message"], answer.json
    else:
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(("case", "status", "reason"), DIFFERENT, ids=[case.what for case, _, _ in DIFFERENT])
def test_other_statuses_on_purpose(onstage, mlflow, case, status, reason):
    assert mlflow.ask(case.model, case.body, case.content_type)[0] == case.status
    answer = send(onstage.http, "POST", f"/models/{case.model}/invocations", case.body, {"Content-Type": case.content_type})
    assert answer.status == status, reason


@pytest.mark.parametrize(("case", "before", "since"), CHANGED, ids=[case.what for case, _, _ in CHANGED])
def test_what_changed_with_3_18_is_as_it_was(onstage, mlflow, case, before, since):
    status, theirs = mlflow.ask(case.model, case.body, case.content_type)
    assert status == (before if VERSION.startswith("3.17.") else since), theirs
    answer = send(onstage.http, "POST", f"/models/{case.model}/invocations", case.body, {"Content-Type": case.content_type})
    assert answer.status == before, answer.body


def test_its_client_reads_our_answers(onstage, mlflow):
    host, port = onstage.http.split(":")
    client = ScoringServerClient(host, port)
    client.wait_server_ready()
    found = client.invoke(FRAME).get_predictions()
    assert np.allclose(found["y"], mlflow.model("plain").predict(FRAME)["y"])
    assert client.get_version().startswith("3.")


@pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
def test_paths_of_the_server(onstage, path):
    answer = send(onstage.http, "GET", path)
    assert answer.status == 200 and answer.headers["content-type"] == JSON and answer.body
    assert send(onstage.http, "POST", path, "").status == 405


def test_a_path_that_is_not_there(onstage):
    answer = send(onstage.http, "GET", "/rubbish")
    assert answer.status == 404 and answer.json == {"detail": "Not Found"}
    assert send(onstage.http, "GET", "/invocations").status == 405
