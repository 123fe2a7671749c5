"""What TensorFlow Serving's `http_rest_api_handler_test` and `json_tensor_test` check, as requests to onstage."""

import base64
import json
import math

import pytest
from cases import Case, each, hold, is_json, send

PREDICT = "/v1/models/{}:predict"
HALF = PREDICT.format("half_plus_two")
CUBE, NUMBERS, MIXED, DOUBLES = (PREDICT.format(name) for name in ["cube", "numbers", "mixed", "doubles"])
TEXTS, IRIS = PREDICT.format("texts"), PREDICT.format("iris")
OLD = "/v1/models/half_plus_two/versions/1"
INSTANCE = {"instances": [1.0]}

NOT_THERE = "a path that does not exist is 404; TensorFlow Serving calls every path that it cannot read a malformed request"
KSERVE_LISTS = "KServe's V1 lists the models there"
WRONG_METHOD = "405 is what HTTP has for it; `Allow` tells the right method"
NO_SIGNATURES = "an ONNX model has no signatures for classification and regression; 501 says so before it looks at the rest"
ROUNDED = "numbers become single precision as everywhere else here and in JSON's other readers; a number that has none is refused"

# http_rest_api_handler_test: paths.
PATHS = [
    Case("a path of nothing", "/v1/foo", None, 400, "GET", ours=404, reason=NOT_THERE),
    Case("a path of nothing, posted to", "/v1/foo", "", 400, ours=404, reason=NOT_THERE),
    Case("no name of a model", "/v1/models", None, 400, "GET", ours=200, reason=KSERVE_LISTS),
    Case("no name of a model, posted to", "/v1/models", "", 400, ours=405, reason=WRONG_METHOD),
    Case("a prediction by GET", HALF, None, 400, "GET", ours=405, reason=WRONG_METHOD),
    Case("`version` for `versions`", "/v1/models/foo/version/50:predict", INSTANCE, 400, ours=404, reason=NOT_THERE),
    Case("a version that is no number", "/v1/models/iris/versions/HELLO:predict", INSTANCE, 400, ours=404, reason=NOT_THERE),
    Case("a version beyond 64 bits", f"/v1/models/iris/versions/{2**64}:predict", INSTANCE, 400, ours=404, reason=NOT_THERE),
    Case("a verb of nothing", "/v1/models/half_plus_two:guess", INSTANCE, 400, says="guess|malformed"),
    Case("an unknown model", "/v1/models/foo:predict", INSTANCE, 404, says="foo"),
    Case("an unknown model and version", "/v1/models/foo/versions/50:predict", INSTANCE, 404, says="foo"),
    Case("an unknown version", "/v1/models/half_plus_two/versions/99:predict", INSTANCE, 404, says="99"),
    Case("an unknown label", "/v1/models/half_plus_two/labels/stable:predict", INSTANCE, 404, says="stable"),
    Case("status of an unknown model", "/v1/models/foo", None, 404, "GET", says="foo"),
    Case("status of an unknown version", "/v1/models/half_plus_two/versions/99", None, 404, "GET", says="99"),
    Case("metadata of an unknown model", "/v1/models/foo/metadata", None, 404, "GET", says="foo"),
    Case("letters of any case", "/V1/Models/half_plus_two:PREDICT", INSTANCE, check=is_json(predictions=[2.5])),
    Case("a classification", "/v1/models/iris:classify", {"examples": [{"x": 20.0}]}, ours=501, reason=NO_SIGNATURES),
    Case("a regression", "/v1/models/iris:regress", {"examples": [{"x": 80.0}]}, ours=501, reason=NO_SIGNATURES),
]

# http_rest_api_handler_test: predictions and bodies.
PREDICTIONS = [
    Case("the latest version", HALF, {"instances": [1.0, 2.0]}, check=is_json(predictions=[2.5, 3.0])),
    Case("a version by its number", f"{OLD}:predict", {"instances": [3.0, 4.0]}, check=is_json(predictions=[3.5, 4.0])),
    Case(
        "the name of the signature",
        HALF,
        {"signature_name": "serving_default", "instances": [3.0, 4.0]},
        check=is_json(predictions=[3.5, 4.0]),
    ),
    Case("columns are answered by columns", HALF, {"inputs": [3.0, 4.0]}, check=is_json(outputs=[3.5, 4.0], predictions=None)),
    Case("an object for each row", HALF, {"instances": [{"x": 1.0}, {"x": 2.0}]}, check=is_json(predictions=[2.5, 3.0])),
    Case("an object of columns", HALF, {"inputs": {"x": [1.0, 2.0]}}, check=is_json(outputs=[2.5, 3.0])),
    Case("no rows", HALF, {"instances": []}, check=is_json(predictions=[])),
    Case("unknown members", HALF, {"instances": [1.0], "more": {"a": 1}}, check=is_json(predictions=[2.5])),
    Case("nothing", HALF, "", 400),
    Case("no JSON", HALF, "instances = [1, 2]", 400),
    Case("JSON that is no object", HALF, [1.0, 2.0], 400),
    Case("more than one JSON", HALF, '{"instances": [1.0]} X', 400),
    Case("no data", HALF, {"signature_name": "serving_default"}, 400, says="instances"),
    Case("a name of the signature that is no text", HALF, {"signature_name": 5, "instances": [1.0]}, 400, says="signature_name"),
    Case("rows and columns", HALF, {"instances": [1.0], "inputs": [1.0]}, 400, says="instances.*inputs|inputs.*instances"),
    Case("rows that are no list", HALF, {"instances": 1.0}, 400, says="instances"),
]

# json_tensor_test: what becomes a tensor, and what does not.
TENSORS = [
    Case(
        "a list of lists of lists",
        CUBE,
        {"instances": [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 0], [1, 2]]]},
        check=is_json(predictions=[[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 0], [1, 2]]]),
    ),
    Case("the same as a column", CUBE, {"inputs": [[[1, 2], [3, 4], [5, 6]]]}, check=is_json(outputs=[[[1, 2], [3, 4], [5, 6]]])),
    Case(
        "the same by name",
        CUBE,
        {"inputs": {"x": [[[1, 2], [3, 4], [5, 6]]]}},
        check=is_json(outputs=[[[1, 2], [3, 4], [5, 6]]]),
    ),
    Case(
        "whole numbers among floats",
        HALF,
        {"instances": [1, 2.0, 3, 0.5, 0.0]},
        check=is_json(predictions=[2.5, 3.0, 3.5, 2.25, 2.0]),
    ),
    Case(
        "whole numbers among doubles",
        DOUBLES,
        {"instances": [1.0, 2, 0.662, 0]},
        check=is_json(predictions=[1.0, 2.0, 0.662, 0.0]),
    ),
    Case("fractions for whole numbers", NUMBERS, {"instances": [1, 2.5]}, 400, says="`x`"),
    Case("floats without a fraction for whole numbers", NUMBERS, {"instances": [1, 2.0]}, 400, says="`x`"),
    Case("text for whole numbers", NUMBERS, {"instances": [1, "a"]}, 400, says="`x`"),
    Case("truth for whole numbers", NUMBERS, {"instances": [True]}, 400, says="`x`"),
    Case("a number that does not fit", NUMBERS, {"instances": [2**31]}, 400, says="`x`"),
    Case("a number for text", TEXTS, {"instances": [["a", 1]]}, 400, says="`x`"),
    Case("a row that is too long", CUBE, {"instances": [[[1, 2], [3, 4], [5, 6, 7]]]}, 400, says="`x`"),
    Case("a row that is too deep", CUBE, {"instances": [[[1, 2], [3, 4], [[5, 6]]]]}, 400, says="`x`"),
    Case("a number beside a list", NUMBERS, {"instances": [1, [1]]}, 400, says="`x`"),
    Case("lists of different lengths", CUBE, {"instances": [[[1, 2]] * 3, [[1, 2]] * 4]}, 400, says="`x`"),
    Case("a single that overflows", HALF, '{"instances": [1.7976931348623157e308]}', 400, says="`x`"),
    Case(
        "a whole number that a single rounds",
        HALF,
        {"inputs": [16777217]},
        400,
        ours=200,
        reason=ROUNDED,
        check=is_json(outputs=[8388610.0]),
    ),
    Case(
        "a whole number that a double rounds",
        DOUBLES,
        {"instances": [2**53 + 1]},
        400,
        ours=200,
        reason=ROUNDED,
        check=is_json(predictions=[9007199254740992.0]),
    ),
]


def b64(text):
    return {"b64": base64.b64encode(text.encode()).decode()}


WORDS = [["hello", "world"], ["tf", "serving"]]
PACKED = [[b64(word) for word in row] for row in WORDS]

# json_tensor_test: text in base64, both ways.
BASE64 = [
    Case("text in base64", TEXTS, {"instances": PACKED}, check=is_json(predictions=PACKED)),
    Case("text in base64, by column", TEXTS, {"inputs": PACKED}, check=is_json(outputs=PACKED)),
    Case("text in base64, by name", TEXTS, {"instances": [{"x": row} for row in PACKED]}, check=is_json(predictions=PACKED)),
    Case("plain text comes back in base64", TEXTS, {"instances": WORDS}, check=is_json(predictions=PACKED)),
    Case("no base64", TEXTS, {"instances": [[{"b64": "!"}, {"b64": "a"}]]}, 400, says="`x`"),
    Case("another object for text", TEXTS, {"instances": [[{"test": 10}, "a"]]}, 400, says="`x`"),
]


def mixed(**changed):
    row = {"count": [[1, 2], [3, 4], [5, 6]], "word": ["foo", "bar"], "share": [1.0], "weight": 8.0}
    return row | changed


def both_rows(answer):
    first, second = answer.json["predictions"]
    assert first == {"count_out": [[1, 2], [3, 4], [5, 6]], "word_out": ["foo", "bar"], "share_out": [1.0], "weight_out": 8.0}
    assert second["word_out"] == ["baz", "bat"] and second["weight_out"] == 9.0


# json_tensor_test: several inputs.
SEVERAL = [
    Case("rows of several inputs", MIXED, {"instances": [mixed(), mixed(word=["baz", "bat"], weight=9.0)]}, check=both_rows),
    Case(
        "an input of another shape in a row",
        MIXED,
        {"instances": [mixed(), mixed(count=[[[1, 2], [3, 4], [5, 6]]])]},
        400,
        says="count",
    ),
    Case("an input of another length in a row", MIXED, {"instances": [mixed(), mixed(count=[[1, 2]] * 4)]}, 400, says="count"),
    Case("a list among objects", MIXED, {"instances": [mixed(), [1, 20, 30]]}, 400, says="instances"),
    Case("an object among lists", TEXTS, {"instances": [["a", "b"], {"x": ["a", "b"]}]}, 400, says="instances|x"),
    Case("lists for several inputs", MIXED, {"instances": [[1.0]]}, 400, says="count|instances"),
    Case(
        "an input that is missing in a row",
        MIXED,
        {"instances": [mixed(), {"count": [[1, 2]] * 3}]},
        400,
        says="word|share|weight",
    ),
    Case("an input that is not the model's", MIXED, {"instances": [mixed(other=1)]}, 400, says="other"),
]

TABLES = [PATHS, PREDICTIONS, TENSORS, BASE64, SEVERAL]


@each([case for table in TABLES for case in table])
def test_of_tensorflow_servings_suites(server, case):
    hold(server, case)


def test_numbers_that_are_not_finite_come_and_go_bare(server):
    # json_tensor_test; the server runs with `--nonfinite bare`.
    answer = send(server.http, "POST", DOUBLES, '{"instances": [NaN, Infinity, 3, -Infinity]}')
    assert answer.status == 200, answer.body
    first, *others = json.loads(answer.body)["predictions"]
    assert math.isnan(first) and others == [math.inf, 3.0, -math.inf]


@pytest.mark.parametrize("path", [OLD, "/v1/models/half_plus_two/versions/123"])
def test_status_of_a_version(server, path):
    answer = send(server.http, "GET", path)
    (told,) = answer.json["model_version_status"]
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert (told["version"], told["state"]) == (path.rsplit("/", 1)[1], "AVAILABLE")
    assert told["status"] == {"error_code": "OK", "error_message": ""}


def test_status_of_all_versions(server):
    told = send(server.http, "GET", "/v1/models/half_plus_two").json["model_version_status"]
    assert {one["version"] for one in told} == {"1", "123"}
    assert {one["state"] for one in told} == {"AVAILABLE"}


def test_metadata_is_a_signature(server):
    told = send(server.http, "GET", "/v1/models/half_plus_two/metadata").json
    assert told["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == signature["outputs"]["y"]["dtype"] == "DT_FLOAT"
    assert [size["size"] for size in signature["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1"]
    version = send(server.http, "GET", f"{OLD}/metadata").json
    assert version["model_spec"]["version"] == "1"
