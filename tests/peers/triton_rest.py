"""What Triton's `qa/L0_*` check over HTTP, as requests to onstage."""

import contextlib
import gzip
import json
import socket
import zlib

import numpy as np
import pytest
from cases import HEADER_LENGTH, Case, each, gives, hold, is_json, output, send, tensor, with_bytes

INFER = "/v2/models/{}/infer"
SAME = INFER.format("same_float32")
IRIS = INFER.format("iris")
EIGHT = np.arange(8, dtype=np.float32)
EIGHT_JSON = {"inputs": [tensor("x", "FP32", [1, 8], EIGHT.tolist())]}
ROW = {"inputs": [tensor("features", "FP32", [1, 4], [6.3, 3.3, 6.0, 2.5])]}
RAW = {HEADER_LENGTH: "0"}

NOT_FOUND = "Triton answers 400; 404 is what MLServer, KServe and HTTP say, and what gRPC's NOT_FOUND means"
NEVER_500 = "a mistake of the caller is never a 500"
TOO_LARGE = "413 is what HTTP has for it"
OTHER_ENCODING = "415 is what HTTP has for it; `Accept-Encoding` tells the others as Triton's 501 does"


def raw(model, body, **more):
    return {"path": INFER.format(model), "body": body, "headers": RAW | more}


def comes_back(array):
    """A check that the bytes of the only output are these."""

    def check(answer):
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.tensors == array.tobytes()

    return check


def one_text(answer):
    assert answer.tensors == b"\x03\0\0\0" + b"427"


# qa/L0_http: a body without JSON is the only tensor of the model, where its shape can be told from its length.
RAW_BODIES = [
    Case("raw bytes of one row", **raw("same_float32", EIGHT.tobytes()), check=comes_back(EIGHT)),
    # A row is all that such a body may be there; here as well, as the model's width is fixed.
    Case("a raw text needs no length", **raw("one_text", b"427"), check=one_text),
    Case("a raw text for two elements", **raw("same_text", b"427"), status=400, says="`x`"),
    Case("raw bytes for two open dimensions", **raw("two_open", EIGHT.tobytes()), status=400, says="`x`"),
    Case("raw bytes for three inputs", **raw("three_inputs", EIGHT.tobytes() * 3), status=400, says="3|three|one input"),
    Case("raw bytes that are no row", **raw("same_float32", b"123"), status=400, says="`x`"),
    Case("raw bytes in a chunk", **raw("same_float32", EIGHT.tobytes()), chunked=True, check=comes_back(EIGHT)),
]

WIDE = 2**60 + 2

# qa/L0_http and qa/L0_input_validation: shapes that lie.
SHAPES = [
    Case(
        "elements beyond 64 bits",
        SAME,
        {"inputs": [tensor("x", "FP32", [2**4, WIDE], [1.0])]},
        400,
        says="`x`",
    ),
    Case("bytes beyond 64 bits", SAME, {"inputs": [tensor("x", "FP32", [2**2, WIDE], [1.0])]}, 400, says="`x`"),
    Case("a dimension beyond 64 bits", SAME, {"inputs": [tensor("x", "FP32", [2**64, 8], [1.0])]}, 400, says="`x`|shape"),
    Case(
        "a negative dimension",
        SAME,
        {"inputs": [tensor("x", "FP32", [2, -5], [1.0])]},
        500,
        says="shape",
        ours=400,
        reason=NEVER_500,
    ),
    Case("a wrong width", SAME, {"inputs": [tensor("x", "FP32", [1, 9], [0.0] * 9)]}, 400, says=r"`x`.*\[1, 9\]"),
    Case("a wrong rank", SAME, {"inputs": [tensor("x", "FP32", [8], [0.0] * 8)]}, 400, says=r"`x`.*\[8\]"),
    Case("too few elements", SAME, {"inputs": [tensor("x", "FP32", [1, 8], [0.0] * 7)]}, 400, says="`x`.*7"),
    Case("too many elements", SAME, {"inputs": [tensor("x", "FP32", [1, 8], [0.0] * 9)]}, 400, says="`x`.*9"),
    Case("another datatype", SAME, {"inputs": [tensor("x", "INT32", [1, 8], [0] * 8)]}, 400, says="INT32.*FP32"),
    Case(
        "more bytes than the shape has",
        SAME,
        status=400,
        says="`x`.*40",
        **with_bytes({"inputs": [tensor("x", "FP32", [1, 8], binary_data_size=40)]}, bytes(40)),
    ),
    Case(
        "fewer bytes than the shape has",
        SAME,
        status=400,
        says="`x`.*24",
        **with_bytes({"inputs": [tensor("x", "FP32", [1, 8], binary_data_size=24)]}, bytes(24)),
    ),
    Case(
        "a size beyond the body",
        SAME,
        status=400,
        says="`x`",
        **with_bytes({"inputs": [tensor("x", "FP32", [1, 8], binary_data_size=32)]}, bytes(31)),
    ),
    Case(
        "a negative size",
        SAME,
        status=400,
        says="`x`",
        **with_bytes({"inputs": [tensor("x", "FP32", [1, 8], binary_data_size=-32)]}, bytes(32)),
    ),
    Case(
        "a text longer than its tensor",
        INFER.format("one_text"),
        status=400,
        says="`x`",
        **with_bytes({"inputs": [tensor("x", "BYTES", [1, 1], binary_data_size=7)]}, b"\xff\0\0\0abc"),
    ),
    Case(
        "a length of a text that is cut off",
        INFER.format("one_text"),
        status=400,
        says="`x`",
        **with_bytes({"inputs": [tensor("x", "BYTES", [1, 1], binary_data_size=2)]}, b"\x01\0"),
    ),
    Case(
        "bytes after the last tensor",
        SAME,
        status=400,
        says="32|bytes",
        **with_bytes({"inputs": [tensor("x", "FP32", [1, 8], binary_data_size=32)]}, bytes(33)),
    ),
]


def three(*names):
    return {"inputs": [tensor(name, "FP32", [1, 8], [1.0] * 8) for name in names]}


# qa/L0_input_validation: the message lists the inputs that are missing.
INPUTS = [
    Case("all inputs", INFER.format("three_inputs"), three("a", "b", "c"), check=gives(sum=[3.0] * 8)),
    Case("inputs in another order", INFER.format("three_inputs"), three("c", "a", "b"), check=gives(sum=[3.0] * 8)),
    Case("no inputs", INFER.format("three_inputs"), three(), 400, says="`a`.*`b`.*`c`"),
    Case("one input of three", INFER.format("three_inputs"), three("a"), 400, says="`b`.*`c`"),
    Case("an input too many", INFER.format("three_inputs"), three("a", "b", "c", "d"), 400, says="`d`"),
    Case("an input twice", INFER.format("three_inputs"), three("a", "b", "b"), 400, says="`b`"),
    Case("an output twice", SAME, EIGHT_JSON | {"outputs": [{"name": "y"}, {"name": "y"}]}, 400, says="`y`.*twice"),
    Case("an unknown output", SAME, EIGHT_JSON | {"outputs": [{"name": "z"}]}, 400, says="`z`"),
    Case("no member `inputs`", SAME, {}, 400, says="inputs"),
    Case("`inputs` is no list", SAME, {"inputs": 7}, 400, says="inputs"),
]


def nested(depth, value):
    return "[" * depth + value + "]" * depth


def deep(model, datatype, depth, value):
    head = json.dumps(tensor("x", datatype, [1, 2])).removesuffix("}")
    return {"path": INFER.format(model), "body": f'{{"inputs": [{head}, "data": {nested(depth, value)}}}]}}'}


# qa/L0_http, nested JSON: beyond 100 levels is refused, and the server lives on.
DEPTH = [
    Case("texts 120 deep", **deep("same_text", "BYTES", 120, '"a", "b"'), status=400),
    Case("numbers 120 deep", **deep("same_int64", "INT64", 120, "1, 2"), status=400),
    Case("texts 100,000 deep", **deep("same_text", "BYTES", 100_000, '"a", "b"'), status=400),
    Case("an unknown member 100,000 deep", SAME, f'{{"x": {nested(100_000, "")}}}', 400),
    Case("nested as the shape has it", **deep("same_text", "BYTES", 2, '"a", "b"'), check=gives(y=["a", "b"])),
    Case(
        "texts 50 deep, for two dimensions",
        **deep("same_text", "BYTES", 50, '"a", "b"'),
        ours=400,
        reason="Triton flattens whatever the nesting; a nesting that is not the shape is a mistake in one of both",
        says="`x`",
    ),
]


def parameters(**given):
    return EIGHT_JSON | {"parameters": given}


SERVED = gives(y=EIGHT.tolist())

# qa/L0_parameters: values of every kind are taken, names that begin with `triton_` are Triton's own.
PARAMETERS = [
    Case("parameters of text", SAME, parameters(key1="value1", key2="value2"), check=SERVED),
    Case("parameters of whole numbers", SAME, parameters(key1=1, key2=2), check=SERVED),
    Case("parameters of fractions", SAME, parameters(key1=123.123, key2=321.321), check=SERVED),
    Case("parameters of both kinds", SAME, parameters(key1=True, key2="value2"), check=SERVED),
    Case("a reserved parameter", SAME, parameters(triton_=True, key2="value2"), 400, says="triton_"),
    Case("a sequence of a model without state", SAME, parameters(sequence_id=7, sequence_start=True), check=SERVED),
    Case("a sequence with a text for its id", SAME, parameters(sequence_id="a", sequence_end=True), check=SERVED),
    Case("an empty id", SAME, EIGHT_JSON | {"id": ""}, check=SERVED),
    Case("an id comes back", SAME, EIGHT_JSON | {"id": "a-7"}, check=is_json(id="a-7")),
    Case("an id that is a number", SAME, EIGHT_JSON | {"id": 7}, 400, says="id"),
]


def classes(count, model="iris", body=ROW, name="probabilities"):
    asked = [{"name": name, "parameters": {"classification": count}}]
    return {"path": INFER.format(model), "body": body | {"outputs": asked}}


def best(shape, *indices):
    """A check that the classes are these, the highest value first."""

    def check(answer):
        found = output(answer, "probabilities")
        assert (found["datatype"], found["shape"]) == ("BYTES", shape), found
        values, places = zip(*(text.split(":")[:2] for text in found["data"]), strict=True)
        assert [int(place) for place in places] == list(indices)
        assert sorted(map(float, values), reverse=True) == list(map(float, values))

    return check


TEXTS = {"inputs": [tensor("x", "BYTES", [1, 2], ["a", "b"])]}

# qa/L0_parameters, classification, and qa/L0_infer with `use_json` and class counts.
CLASSES = [
    Case("the best class", **classes(1), check=best([1, 1], 2)),
    Case("all classes", **classes(3), check=best([1, 3], 2, 1, 0)),
    Case("more classes than there are", **classes(5), check=best([1, 3], 2, 1, 0)),
    Case("classes of texts", **classes(5, "same_text", TEXTS, "y"), status=400, says="BYTES"),
    Case("a negative count", **classes(-1), status=400, says="classification"),
    Case("a count that is text", **classes("3"), status=400, says="classification"),
]


def zero(shape):
    return EIGHT_JSON | {"inputs": [tensor("x", "FP32", shape, [])]}


def no_rows(answer):
    assert output(answer, "y") == {"name": "y", "datatype": "FP32", "shape": [0, 8], "data": []}


# qa/L0_infer_zero.
EMPTY = [
    Case("no rows", SAME, zero([0, 8]), check=no_rows),
    Case("no rows as bytes", SAME, **with_bytes({"inputs": [tensor("x", "FP32", [0, 8], binary_data_size=0)]}), check=no_rows),
    Case("no columns where there are eight", SAME, zero([1, 0]), 400, says="`x`"),
    Case("neither rows nor columns", INFER.format("two_open"), zero([0, 0, 3]), check=gives(y=[])),
]

# qa/L0_http and qa/L0_lifecycle: what is not there.
PATHS = [
    Case("an unknown model", INFER.format("rose"), ROW, 400, says="rose", ours=404, reason=NOT_FOUND),
    Case("an unknown version", "/v2/models/iris/versions/7/infer", ROW, 400, says="7", ours=404, reason=NOT_FOUND),
    Case("a version that is no number", "/v2/models/iris/versions/v1/infer", ROW, 404),
    Case("metadata of an unknown model", "/v2/models/rose", None, 400, "GET", says="rose", ours=404, reason=NOT_FOUND),
    Case("readiness of an unknown model", "/v2/models/rose/ready", None, 400, "GET", ours=404, reason=NOT_FOUND),
    Case("statistics of an unknown model", "/v2/models/rose/stats", None, 400, "GET", ours=404, reason=NOT_FOUND),
    Case("configuration of an unknown model", "/v2/models/rose/config", None, 400, "GET", ours=404, reason=NOT_FOUND),
    Case("a path that means nothing", "/v2/rubbish", None, 404, "GET"),
    Case("a verb that means nothing", "/v2/models/iris/rubbish", "", 404),
    Case("a GET of an inference", IRIS, None, 405, "GET"),
    Case("a POST of the metadata", "/v2/models/iris", "{}", 405),
    Case("the server lives", "/v2/health/live", method="GET"),
    Case("the server is ready", "/v2/health/ready", method="GET"),
    Case("the model is ready", "/v2/models/iris/versions/1/ready", method="GET"),
    Case("an index with an empty body", "/v2/repository/index", ""),
    Case("an index of what is ready", "/v2/repository/index", {"ready": True}),
    Case("settings of the log", "/v2/logging", method="GET", check=is_json(log_file="", log_error=True)),
    Case(
        "other settings of the log",
        "/v2/logging",
        {"log_verbose_level": 1},
        ours=501,
        reason="the log is the operator's: a caller changes nothing of it",
    ),
    Case("a file of the log", "/v2/logging", {"log_file": "x.log"}, 400, ours=501, reason="as above; Triton gave it up, too"),
    Case(
        "a model is loaded by anybody",
        "/v2/repository/models/iris/load",
        ours=403,
        reason="managing is for the admin listener, with its token",
    ),
]

BODY = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [0, 1, 2, 3, 4, 5, 6, 7]}]}'


def packed(encoding, body):
    return {"path": SAME, "body": body, "headers": {"Content-Encoding": encoding}}


# qa/L0_data_compression.
CODINGS = [
    Case("a body in gzip", **packed("gzip", gzip.compress(BODY.encode())), check=SERVED),
    Case("a body in deflate", **packed("deflate", zlib.compress(BODY.encode())), check=SERVED),
    Case("a body that is no gzip", **packed("gzip", BODY), status=400),
    Case("a body of gzip that is cut off", **packed("gzip", gzip.compress(BODY.encode())[:-9]), status=400),
    Case("an unknown encoding", **packed("zstd", BODY), status=501, ours=415, reason=OTHER_ENCODING),
    Case("no encoding at all", **packed("identity", BODY), check=SERVED),
    Case("nothing in gzip", **packed("gzip", gzip.compress(b"")), status=400),
]

TABLES = [RAW_BODIES, SHAPES, INPUTS, DEPTH, PARAMETERS, CLASSES, EMPTY, PATHS, CODINGS]


@each([case for table in TABLES for case in table])
def test_of_tritons_suites(server, case):
    hold(server, case)


# qa/L0_http_fuzz: every kind of request line is answered or hung up on, and the server lives on.
LINES = [b"", b" ", b"GET", b"GET ", b"GET  HTTP/1.1", b"POST /v2\0 HTTP/1.1", b"GET /v2 HTTP/9.9", b"\xff\xfe /v2 HTTP/1.1"]
LINES += [b"GET /" + b"A" * 100_000 + b" HTTP/1.1", b"GET /v2/%n%s%x HTTP/1.1", b"GET /v2/../../etc/passwd HTTP/1.1"]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
PLACES = ["/v2", "/v2/models/iris", IRIS, "/v2/repository/index", "/v2/systemsharedmemory/region/x/status"]


@pytest.mark.parametrize("line", LINES + [f"{method} {place} HTTP/1.1".encode() for method in METHODS for place in PLACES])
def test_no_request_line_ends_the_server(server, line):
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        # The server may hang up at any moment.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
    assert not answer or answer.startswith(b"HTTP/1."), answer[:100]
    assert not answer.startswith(b"HTTP/1.1 500"), answer[:500]
    assert send(server.http, "GET", "/v2/health/live").status == 200


@pytest.mark.slow
def test_bodies_up_to_the_limit_are_served_and_larger_ones_are_not(server):
    # qa/L0_http, input size limit: 64 MB by default.
    rows = 2**24 // 8
    just_below = np.ones((rows - 8, 8), np.float32)
    request = {"inputs": [tensor("x", "FP32", list(just_below.shape), binary_data_size=just_below.nbytes)]}
    request["parameters"] = {"binary_data_output": True}
    answer = send(server.http, "POST", SAME, **with_bytes(request, just_below.tobytes()))
    assert answer.status == 200, answer.body[:500]
    assert answer.tensors == just_below.tobytes()
    above = Case("64 MiB and 128 bytes", **raw("same_float32", bytes(2**26 + 128)), status=400, ours=413, reason=TOO_LARGE)
    hold(server, above)
    text = f'{{"inputs": [{" " * 2**26}]}}'
    hold(server, Case("64 MiB of JSON", SAME, text, 400, ours=413, reason=TOO_LARGE))
