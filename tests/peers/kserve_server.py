"""What KServe's tests of its server and of its messages (`python/kserve/test`) check, asked with KServe's own encoders."""

import json

import numpy as np
import pytest
from cases import HEADER_LENGTH, Case, each, gives, hold, is_json, send, tensor, with_bytes
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput

V1, V2 = "/v1/models/iris:predict", "/v2/models/{}/infer"
ROWS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
INSTANCES = {"instances": ROWS}
HALVES, SINGLES = np.array(ROWS, np.float16), np.array(ROWS, np.float32)

EXPLAIN = "an ONNX model explains nothing; 501 says so"


def two_rows(answer):
    assert answer.headers["content-type"] == "application/json"
    assert [row["label"] for row in answer.json["predictions"]] == [1, 1]


# test_server: V1.
ONE = [
    Case("the server lives", "/", method="GET", check=is_json(status="alive")),
    Case("a model", "/v1/models/iris", method="GET", check=is_json(name="iris", ready=True)),
    Case("an unknown model", "/v1/models/InvalidModel", None, 404, "GET", says="InvalidModel"),
    Case("instances", V1, INSTANCES, check=two_rows),
    Case("instances as bytes", V1, json.dumps(INSTANCES), headers={"Content-Type": "application/json"}, check=two_rows),
    Case("instances without a content type", V1, INSTANCES, check=two_rows),
    Case("instances that are text", V1, {"instances": "invalid"}, 400, says="instances"),
    Case("inputs that are text", V1, {"inputs": "invalid"}, 400, says="inputs|features"),
    Case("neither instances nor inputs", V1, {"data": [1]}, 400, says="instances"),
    Case("no JSON", V1, "{invalid", 400),
    Case("a prediction of an unknown model", "/v1/models/InvalidModel:predict", INSTANCES, 404, says="InvalidModel"),
    Case("an explanation", "/v1/models/iris:explain", INSTANCES, ours=501, reason=EXPLAIN),
    Case("an unknown path", "/unknown_path", None, 404, "GET", says="Not Found"),
    Case("metrics", "/metrics", method="GET"),
]

NUMBERS = {"inputs": [tensor("x", "INT32", [2], [1, 2])]}
HALF_JSON = [tensor("half", "FP16", [2, 4], ROWS), tensor("single", "FP32", [2, 4], ROWS)]


def named(answer):
    assert "iris" in answer.json["models"]


# test_server, test_infer_type: V2 as JSON.
TWO = [
    Case("all models", "/v2/models", method="GET", check=named),
    Case(
        "nested data come back flat",
        V2.format("same_int64"),
        {"inputs": [tensor("x", "INT64", [1, 2], [[1, 2]])]},
        check=gives(y=[1, 2]),
    ),
    Case("an unknown model of V2", V2.format("InvalidModel"), NUMBERS, 404, says="InvalidModel"),
    Case("readiness of an unknown model", "/v2/models/InvalidModel/ready", None, 404, "GET", says="InvalidModel"),
    Case("inputs of V2 that are text", V2.format("numbers"), {"inputs": "invalid"}, 400, says="inputs"),
    Case("half precision as JSON", V2.format("half_precision"), {"inputs": HALF_JSON}, 400, says="FP16"),
    Case("JSON that is cut off", V2.format("numbers"), '{"id": "1", "inputs": [{"name": "x", "shape": [1]', 400),
    Case(
        "bytes whose size nobody tells",
        V2.format("numbers"),
        status=400,
        says="`x`",
        **with_bytes({"inputs": [tensor("x", "INT32", [3])]}, bytes(12)),
    ),
    Case(
        "a size, and no bytes", V2.format("numbers"), {"inputs": [tensor("x", "INT32", [3], binary_data_size=12)]}, 400, says="`x`"
    ),
    Case(
        "parameters of every kind",
        V2.format("numbers"),
        {
            "parameters": {"s": "a", "b": True, "i": 100, "f": 1.3},
            "inputs": [tensor("x", "INT32", [2], [1, 2], s="a", b=True, i=1, f=1.3)],
        },
        check=gives(y=[1, 2]),
    ),
    Case("the name of the model in the body", V2.format("numbers"), NUMBERS | {"model_name": "numbers"}, check=gives(y=[1, 2])),
]


@each(ONE + TWO)
def test_of_kserves_suites(server, case):
    hold(server, case)


def test_models_are_listed_alike(server):
    one, two = (send(server.http, "GET", f"/{protocol}/models").json for protocol in ["v1", "v2"])
    assert one == two and len(one["models"]) > 10


def ask(server, outputs=(), in_bytes=True, **parameters):
    """A request that KServe's own encoder makes; half precision has no other form than bytes."""
    half, single = InferInput("half", [2, 4], "FP16"), InferInput("single", [2, 4], "FP32")
    half.set_data_from_numpy(HALVES, binary_data=True)
    single.set_data_from_numpy(SINGLES, binary_data=in_bytes)
    asked = [RequestedOutput(name, parameters=given) for name, given in outputs]
    request = InferRequest("half_precision", [half, single], "123", request_outputs=asked or None, parameters=parameters or None)
    body, length = request.to_rest()
    return send(server.http, "POST", V2.format("half_precision"), body, {HEADER_LENGTH: str(length)})


def decoded(answer):
    """What KServe's own decoder reads."""
    assert answer.status == 200, answer.body
    length = answer.headers.get(HEADER_LENGTH.lower())
    found = InferResponse.from_bytes(answer.body, int(length)) if length else InferResponse.from_rest(answer.json)
    return found, {output.name: output.as_numpy() for output in found.outputs}


@pytest.mark.parametrize("in_bytes", [True, False], ids=["bytes", "bytes beside JSON"])
def test_half_precision_goes_in_as_bytes(server, in_bytes):
    answer = ask(server, [("single_out", {"binary_data": False})], in_bytes)
    assert answer.headers["content-type"] == "application/json" and HEADER_LENGTH.lower() not in answer.headers
    found, outputs = decoded(answer)
    assert (found.id, found.model_name) == ("123", "half_precision")
    assert np.array_equal(outputs["single_out"], HALVES.astype(np.float32))


def test_half_precision_comes_out_as_bytes(server):
    answer = ask(server, [("half_out", {"binary_data": True}), ("single_out", {"binary_data": False})])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.tensors == HALVES.tobytes()
    assert answer.json["outputs"][0]["parameters"] == {"binary_data_size": 16}
    _, outputs = decoded(answer)
    assert list(outputs) == ["half_out", "single_out"]
    assert np.array_equal(outputs["half_out"], HALVES)


@pytest.mark.parametrize("given", [None, {"binary_data": False}], ids=["nothing said", "JSON wanted"])
def test_half_precision_does_not_come_out_as_json(server, given):
    answer = ask(server, [("half_out", given)])
    assert answer.status == 400 and "FP16" in answer.error and "half_out" in answer.error


def test_all_outputs_come_as_bytes_when_the_request_says_so(server):
    answer = ask(server, binary_data_output=True)
    assert answer.tensors == HALVES.astype(np.float32).tobytes() + SINGLES.astype(np.float16).tobytes()
    assert [output["parameters"]["binary_data_size"] for output in answer.json["outputs"]] == [32, 16]


def test_what_an_output_says_wins(server):
    wanted = [("half_out", {"binary_data": True}), ("single_out", {"binary_data": False})]
    answer = ask(server, wanted, binary_data_output=True)
    assert answer.tensors == HALVES.tobytes()
    assert "data" in answer.json["outputs"][1] and "parameters" not in answer.json["outputs"][1]
    plain = ask(server, [("single_out", {"binary_data": False})], binary_data_output=True)
    assert HEADER_LENGTH.lower() not in plain.headers


DATATYPES = {
    "same_int64": ("INT64", np.array([[1, -(2**63)]], np.int64)),
    "same_uint8": ("UINT8", np.array([[0, 255]], np.uint8)),
    "same_text": ("BYTES", np.array([["test", "ä"]], np.object_)),
}


@pytest.mark.parametrize("in_bytes", [True, False], ids=["bytes", "JSON"])
@pytest.mark.parametrize("model", DATATYPES)
def test_what_the_encoder_writes_the_decoder_reads(server, model, in_bytes):
    datatype, array = DATATYPES[model]
    given = InferInput("x", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=in_bytes)
    body, length = InferRequest(model, [given], request_outputs=[RequestedOutput("y", {"binary_data": in_bytes})]).to_rest()
    answer = send(server.http, "POST", V2.format(model), body, {HEADER_LENGTH: str(length)} if length else {})
    _, outputs = decoded(answer)
    texts = [text.decode() if isinstance(text, bytes) else text for text in outputs["y"].flatten().tolist()]
    assert texts == array.flatten().tolist()


def event(**attributes):
    given = {
        "type": "com.example.sampletype1",
        "source": "https://example.com/event-producer",
        "id": "3607",
        "specversion": "1.0",
    }
    return CloudEvent(given | attributes, INSTANCES)


def checked(answer):
    """The answer as an event, which is from this model."""
    assert answer.status == 200, answer.body
    found = from_http(answer.headers, answer.body)
    assert found["specversion"] == "1.0" and found["id"]
    assert (found["source"], found["type"]) == ("io.kserve.inference.iris", "io.kserve.inference.response")
    data = found.data if isinstance(found.data, dict) else json.loads(found.data)
    assert [row["label"] for row in data["predictions"]] == [1, 1]


@pytest.mark.parametrize("encode", [to_binary, to_structured], ids=["binary", "structured"])
@pytest.mark.parametrize(
    "more", [{}, {"extension": "a"}, {"time": "2021-01-28T21:04:43.144141+00:00"}], ids=["plain", "extended", "timed"]
)
def test_events_are_answered_by_events(server, encode, more):
    # test_server, cloud events.
    headers, body = encode(event(**more))
    checked(send(server.http, "POST", V1, body, headers))


@pytest.mark.parametrize("name", ["specversion", "source", "type", "id"])
def test_an_event_without_what_it_must_have_is_refused(server, name):
    headers, body = to_structured(event())
    lacking = {key: value for key, value in json.loads(body).items() if key != name}
    answer = send(server.http, "POST", V1, lacking, headers)
    assert answer.status == 400 and name in answer.error


def test_an_event_whose_data_are_no_request_is_refused(server):
    headers, body = to_structured(event())
    answer = send(server.http, "POST", V1, json.loads(body) | {"data": "cat"}, headers)
    assert answer.status == 400, answer.body
    headers, _ = to_binary(event())
    assert send(server.http, "POST", V1, b"\x80\x81", headers).status == 400


def test_names_of_a_request_come_back(server):
    # test_server, headers: a caller finds its own id again, whatever the protocol.
    for path, body in [(V1, INSTANCES), (V2.format("numbers"), NUMBERS)]:
        answer = send(server.http, "POST", path, body, {"X-Request-ID": "a-7"})
        assert answer.headers["x-request-id"] == "a-7"
