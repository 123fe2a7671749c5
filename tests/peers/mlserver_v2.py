"""What MLServer's tests (`tests/rest`, `tests/codecs`, `tests/grpc`) check, as requests to onstage."""

import base64

import grpc
import pytest
from cases import Case, each, gives, hold, send, tensor
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as services

SUMS = "/v2/models/row_sums/infer"
TEXTS, ONE, COLUMNS = (f"/v2/models/{name}/infer" for name in ["same_text", "one_text", "columns"])
REQUEST = {"inputs": [tensor("x", "FP32", [1, 3], [1.0, 2.0, 3.0])]}

ELSEWHERE = "the pages of all protocols are `/docs` and `/openapi.json`"
CLASSED_400 = "400, as Triton and KServe answer; 422 is what a framework of MLServer gives by itself"
GENERATE = "an ONNX model generates nothing; 501 says so"
ADMIN = "managing is for the admin listener, with its token"

# tests/rest/test_endpoints.
PATHS = [
    Case("the server lives", "/v2/health/live", method="GET"),
    Case("the server is ready", "/v2/health/ready", method="GET"),
    Case("a version is ready", "/v2/models/row_sums/versions/1/ready", method="GET"),
    Case("a page about the API", "/v2/docs", method="GET", ours=404, reason=ELSEWHERE),
    Case("the API as OpenAPI", "/v2/docs/dataplane.json", method="GET", ours=404, reason=ELSEWHERE),
    Case("a page about a model", "/v2/models/row_sums/docs", method="GET", ours=404, reason=ELSEWHERE),
    Case("the page of all protocols", "/docs", method="GET"),
    Case("an inference", SUMS, REQUEST, check=gives(sum=[6.0])),
    Case("an inference by a version", "/v2/models/row_sums/versions/1/infer", REQUEST, check=gives(sum=[6.0])),
    Case("an unknown model and version", "/v2/models/my-model/versions/0/infer", REQUEST, 404, says="my-model"),
    Case("a version that is no number", "/v2/models/row_sums/versions/v1.2.3/infer", REQUEST, 404),
    Case("generation", "/v2/models/row_sums/generate", REQUEST, ours=501, reason=GENERATE),
    Case("a stream of generation", "/v2/models/row_sums/generate_stream", REQUEST, ours=501, reason=GENERATE),
    Case("an unknown datatype", SUMS, {"inputs": [tensor("x", "FLOAT32", [1, 3], [1, 2, 3])]}, 422, ours=400, reason=CLASSED_400),
    Case("no inputs", SUMS, {"id": "a"}, 422, says="inputs", ours=400, reason=CLASSED_400),
    Case("an index", "/v2/repository/index", {"ready": True}),
    Case("an index with nothing said", "/v2/repository/index", {}),
    Case("a model is unloaded by anybody", "/v2/repository/models/row_sums/unload", ours=403, reason=ADMIN),
    Case("an unknown model is loaded by anybody", "/v2/repository/models/my-model/load", status=404, ours=403, reason=ADMIN),
]


def typed(content_type, datatype, shape, data, name="x"):
    return {"inputs": [tensor(name, datatype, shape, data, content_type=content_type)]}


def packed(*texts):
    return [base64.b64encode(text.encode()).decode() for text in texts]


PACKED = packed("Python is fun", "a")
NO_LENGTH = "the elements of a tensor stand in a list; a bare value leaves open whether it is one element or a tensor of none"

# tests/codecs: how clients of MLServer write numbers, texts, bytes, and the columns of a data frame.
CODECS = [
    Case("numbers of numpy, flat", SUMS, typed("np", "FP32", [2, 3], [1, 2, 3, 4, 5, 6]), check=gives(sum=[6.0, 15.0])),
    Case("numbers of numpy, nested", SUMS, typed("np", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]]), check=gives(sum=[6.0, 15.0])),
    Case("texts", TEXTS, typed("str", "BYTES", [1, 2], ["hello world", "ä"]), check=gives(y=["hello world", "ä"])),
    Case("texts, a row each, of rank one", ONE, typed("str", "BYTES", [2], ["hey", "what's"]), check=gives(y=["hey", "what's"])),
    Case("texts, a row each, of rank two", ONE, typed("str", "BYTES", [2, 1], ["hey", "up"]), check=gives(y=["hey", "up"])),
    Case("bytes in base64", ONE, typed("base64", "BYTES", [2, 1], PACKED), check=gives(y=["Python is fun", "a"])),
    Case("bytes in base64, of rank one", ONE, typed("base64", "BYTES", [2], PACKED), check=gives(y=["Python is fun", "a"])),
    Case("bytes that are no base64", ONE, typed("base64", "BYTES", [1, 1], ["!"]), 400, says="`x`.*base64|base64.*x"),
    Case("a bare text for a list of one", ONE, typed("str", "BYTES", [1], "hello"), ours=400, says="x|data", reason=NO_LENGTH),
    Case("an unknown codec", ONE, typed("pickle", "BYTES", [1, 1], ["a"]), 400, says="pickle"),
    Case(
        "the codec of the request",
        ONE,
        {"parameters": {"content_type": "base64"}, "inputs": [tensor("x", "BYTES", [2, 1], PACKED)]},
        check=gives(y=["Python is fun", "a"]),
    ),
    Case(
        "the codec of the input wins",
        ONE,
        {"parameters": {"content_type": "base64"}} | typed("str", "BYTES", [2, 1], PACKED),
        check=gives(y=PACKED),
    ),
    Case(
        "a data frame, a column each, of rank one",
        COLUMNS,
        {
            "parameters": {"content_type": "pd"},
            "inputs": [tensor("age", "INT64", [2], [1, 2]), tensor("city", "BYTES", [2], ["A", "B"])],
        },
        check=gives(age_out=[1, 2], city_out=["A", "B"]),
    ),
    Case(
        "a data frame, its texts marked",
        COLUMNS,
        {
            "parameters": {"content_type": "pd"},
            "inputs": [tensor("age", "INT64", [2, 1], [1, 2]), tensor("city", "BYTES", [2, 1], ["A", "B"], content_type="str")],
        },
        check=gives(age_out=[1, 2], city_out=["A", "B"]),
    ),
    Case(
        "parameters that are objects",
        SUMS,
        REQUEST | {"parameters": {"headers": {"x-foo": "bar"}, "custom": [1, 2]}},
        check=gives(sum=[6.0]),
    ),
    Case(
        "members that are null, as pydantic writes them",
        SUMS,
        {
            "id": None,
            "parameters": None,
            "inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3]) | {"parameters": None}],
            "outputs": None,
        },
        check=gives(sum=[6.0]),
    ),
    Case(
        "parameters that are null, as pydantic writes them",
        SUMS,
        {
            "parameters": {"content_type": None, "headers": None},
            "inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3], content_type=None)],
            "outputs": [{"name": "sum", "parameters": {"content_type": None}}],
        },
        check=gives(sum=[6.0]),
    ),
    Case(
        "a codec of an output",
        SUMS,
        REQUEST | {"outputs": [{"name": "sum", "parameters": {"content_type": "np"}}]},
        check=gives(sum=[6.0]),
    ),
]


@each(PATHS + CODECS)
def test_of_mlservers_suites(server, case):
    hold(server, case)


def test_the_server_and_a_model_describe_themselves(server):
    told = send(server.http, "GET", "/v2").json
    assert isinstance(told["name"], str) and isinstance(told["version"], str) and isinstance(told["extensions"], list)
    model = send(server.http, "GET", "/v2/models/row_sums").json
    assert (model["name"], model["versions"]) == ("row_sums", ["1"])
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert model["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [-1]}]
    assert "openapi" in send(server.http, "GET", "/openapi.json").json


def test_an_answer_names_what_was_asked(server):
    answer = send(server.http, "POST", SUMS, REQUEST | {"id": "123e4567"}).json
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("123e4567", "row_sums", "1")
    assert answer["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [1], "data": [6.0]}]


def test_an_unloaded_model_is_gone_until_it_is_loaded(server):
    # tests/rest/test_endpoints, repository: on the admin listener, with its token.
    admin, token = server.admin.removeprefix("http://"), {"Authorization": f"Bearer {server.token}"}
    for verb, there in [("unload", 404), ("load", 200)]:
        assert send(admin, "POST", f"/v2/repository/models/doubles/{verb}", headers=token).status == 200
        assert (send(server.http, "GET", "/v2/models/doubles/ready").status == 200) == (there == 200)
    unknown = send(admin, "POST", "/v2/repository/models/my-model/load", headers=token)
    assert unknown.status == 404 and "my-model" in unknown.error


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield services.GRPCInferenceServiceStub(channel)


def infer(**changed):
    given = {"name": "x", "datatype": "FP32", "shape": [1, 3], "contents": {"fp32_contents": [1, 2, 3]}} | changed
    return messages.ModelInferRequest(model_name="row_sums", inputs=[given])


def test_a_call_is_answered(stub):
    # tests/grpc/test_servicers: typed elements in, one sum out.
    answer = stub.ModelInfer(infer(), timeout=60)
    assert (answer.model_name, [output.name for output in answer.outputs]) == ("row_sums", ["sum"])
    assert answer.raw_output_contents[0] == b"\0\0\xc0\x40"


def test_metadata_of_a_call_comes_back_as_an_id(stub):
    # tests/grpc/test_interceptor, headers: what a caller names a request by is told with the answer.
    _, call = stub.ModelInfer.with_call(infer(), metadata=[("x-request-id", "a-7")], timeout=60)
    told = dict(call.initial_metadata()) | dict(call.trailing_metadata())
    assert (told["x-request-id"], told["x-model-name"], told["x-model-version"]) == ("a-7", "row_sums", "1")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"datatype": "FLOAT32"}, "FLOAT32"),
        ({"datatype": "INT32"}, "INT32"),
        ({"contents": {"fp32_contents": [1, 2]}}, "2"),
        ({"contents": {}}, "x"),
        ({"name": "z"}, "z"),
    ],
    ids=["an unknown datatype", "another datatype", "too few", "nothing", "an unknown input"],
)
def test_what_contradicts_the_model_is_refused(stub, changed, says):
    with pytest.raises(grpc.RpcError, match=says) as caught:
        stub.ModelInfer(infer(**changed), timeout=60)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
