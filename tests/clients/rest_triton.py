"""Triton's own client over HTTP, in its plain and its asyncio form."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tensors import BINARY_ONLY, TENSORS, twice
from tritonclient.utils import InferenceServerException

IRIS = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]], np.float32)
CODINGS = [None, "gzip", "deflate"]


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.http) as client:
        yield client


@pytest.fixture
async def aio(server):
    async with triton_aio.InferenceServerClient(server.http) as client:
        yield client


def tensor(name, array, datatype, binary=True):
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def wanted(name, **options):
    return triton.InferRequestedOutput(name, **options)


def features(array=IRIS, binary=True):
    return [tensor("features", array, "FP32", binary)]


def refused(status, call, *arguments, **named):
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **named)
    assert caught.value.status() == str(status), caught.value
    return caught.value.message()


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("iris") and client.is_model_ready("iris", "1")
    assert not client.is_model_ready("rose") and not client.is_model_ready("iris", "7")
    server = client.get_server_metadata()
    assert server["name"] == "onstage"
    assert {"binary_tensor_data", "classification", "parameters"} <= set(server["extensions"])
    model = client.get_model_metadata("twice_float32")
    assert model["versions"] == ["1", "2"]
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


def test_the_repository_lists_every_version(client):
    index = client.get_model_repository_index()
    rows = {(row["name"], row["version"]): row["state"] for row in index}
    assert rows["iris", "1"] == rows["twice_float32", "2"] == "READY"
    assert len(rows) == len(TENSORS) + 3


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("datatype", TENSORS)
def test_every_datatype_in_both_forms(client, datatype, binary_in, binary_out):
    if datatype in BINARY_ONLY and not (binary_in and binary_out):
        return has_no_json_form(client, datatype, binary_out)
    model, array = TENSORS[datatype]
    inputs = [tensor("x", array, datatype, binary_in)]
    result = client.infer(model, inputs, outputs=[wanted("y", binary_data=binary_out)])
    found, expected = result.as_numpy("y"), twice(datatype)
    if datatype == "BYTES" and not binary_out:
        expected = np.array([[text.decode() for text in row] for row in expected], np.object_)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert np.array_equal(found, expected), f"{found} is not {expected}"
    assert ("data" not in result.get_output("y")) == binary_out


def has_no_json_form(client, datatype, binary_out):
    """The client itself refuses such an input; an output of that kind is the server's to refuse."""
    if binary_out:
        return
    model, array = TENSORS[datatype]
    message = refused(400, client.infer, model, [tensor("x", array, datatype)], outputs=[wanted("y", binary_data=False)])
    assert "no JSON form" in message and datatype in message


@pytest.mark.parametrize("datatype", TENSORS)
async def test_every_datatype_with_asyncio(aio, datatype):
    model, array = TENSORS[datatype]
    result = await aio.infer(model, [tensor("x", array, datatype)])
    assert np.array_equal(result.as_numpy("y"), twice(datatype))


@pytest.mark.parametrize("request_coding", CODINGS)
@pytest.mark.parametrize("response_coding", CODINGS)
@pytest.mark.parametrize("as_bytes", [True, False])
def test_every_pair_of_compressions(client, request_coding, response_coding, as_bytes):
    # Large enough that an answer is worth compressing.
    array = np.arange(4000, dtype=np.float32).reshape(-1, 2)
    result = client.infer(
        "twice_float32",
        [tensor("x", array, "FP32", as_bytes)],
        outputs=[wanted("y", binary_data=as_bytes)],
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    assert np.array_equal(result.as_numpy("y"), np.concatenate([array, array]))
    assert result.get_response()["model_version"] == "2"


@pytest.mark.parametrize("request_coding", CODINGS)
@pytest.mark.parametrize("response_coding", CODINGS)
async def test_every_pair_of_compressions_with_asyncio(aio, request_coding, response_coding):
    array = np.arange(4000, dtype=np.float32).reshape(-1, 2)
    result = await aio.infer(
        "twice_float32",
        [tensor("x", array, "FP32")],
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    assert np.array_equal(result.as_numpy("y"), np.concatenate([array, array]))


def test_large_tensors_come_back_whole(client):
    array = np.random.default_rng(7).random((200_000, 2), np.float32)
    result = client.infer("twice_float32", [tensor("x", array, "FP32")])
    assert np.array_equal(result.as_numpy("y"), np.concatenate([array, array]))


def test_no_rows_come_back_as_no_rows(client):
    result = client.infer("twice_float32", [tensor("x", np.empty((0, 2), np.float32), "FP32")])
    assert result.as_numpy("y").shape == (0, 2)


def test_outputs_come_as_they_are_asked_for(client):
    mixed = [wanted("probabilities", binary_data=False), wanted("label", binary_data=True)]
    result = client.infer("iris", features(), outputs=mixed, request_id="a-7")
    assert [output["name"] for output in result.get_response()["outputs"]] == ["probabilities", "label"]
    assert result.get_response()["id"] == "a-7"
    assert result.as_numpy("label").tolist() == [0, 2]
    assert result.as_numpy("probabilities").shape == (2, 3)
    only = client.infer("iris", features(binary=False), outputs=[wanted("label")])
    assert [output["name"] for output in only.get_response()["outputs"]] == ["label"]


def test_classes_come_best_first(client):
    result = client.infer("iris", features(), outputs=[wanted("probabilities", class_count=2)])
    classes = result.as_numpy("probabilities")
    assert classes.shape == (2, 2)
    assert [text.decode().split(":")[1] for text in classes[:, 0]] == ["0", "2"]
    first, second = (float(text.decode().split(":")[0]) for text in classes[0])
    assert first > second


def test_the_classes_of_a_zipmap_have_labels(client):
    scores = tensor("x", np.array([[0.25, 0.75], [0.5, 0.125]], np.float32), "FP32")
    result = client.infer("zip_map_text", [scores], outputs=[wanted("y", class_count=5)])
    assert result.as_numpy("y").tolist() == [[b"0.75:1:yes", b"0.25:0:no"], [b"0.5:0:no", b"0.125:1:yes"]]
    plain = client.infer("zip_map_text", [scores])
    assert plain.as_numpy("y").tolist() == [[0.25, 0.75], [0.5, 0.125]]
    assert json.loads(plain.get_output("y")["parameters"]["labels"]) == ["no", "yes"]


def test_parameters_are_taken(client):
    result = client.infer(
        "iris",
        features(),
        model_version="1",
        priority=1,
        timeout=60_000_000,
        sequence_id=5,
        sequence_start=True,
        parameters={"text": "a", "number": 1, "share": 0.5, "flag": True},
    )
    assert result.as_numpy("label").tolist() == [0, 2]


def test_many_requests_at_once(server):
    with triton.InferenceServerClient(server.http, concurrency=8) as client:
        pending = [client.async_infer("iris", features(), request_id=str(number)) for number in range(40)]
        for number, one in enumerate(pending):
            result = one.get_result()
            assert result.get_response()["id"] == str(number)
            assert result.as_numpy("label").tolist() == [0, 2]


def test_errors_keep_their_status_and_say_what_is_wrong(client):
    assert "`rose`" in refused(404, client.infer, "rose", features())
    assert "7" in refused(404, client.infer, "iris", features(), model_version="7")
    wide = np.zeros((1, 5), np.float32)
    assert "[1, 5]" in refused(400, client.infer, "iris", features(wide))
    assert "`petals`" in refused(400, client.infer, "iris", [tensor("petals", IRIS, "FP32")])
    double = IRIS.astype(np.float64)
    assert "FP64" in refused(400, client.infer, "iris", [tensor("features", double, "FP64")])
    assert "`class`" in refused(400, client.infer, "iris", features(), outputs=[wanted("class")])
    assert "missing" in refused(400, client.infer, "iris", [])
    assert "rose" in refused(404, client.get_model_metadata, "rose")


async def test_long_answers_of_several_models_with_asyncio(aio):
    statistics = await aio.get_inference_statistics()
    assert {"iris", "twice_float32"} <= {each["name"] for each in statistics["model_stats"]}
    assert (await aio.get_model_config("twice_float32"))["name"] == "twice_float32"
    assert (await aio.get_model_metadata("iris"))["name"] == "iris"
    assert len(await aio.get_model_repository_index()) > 2


async def test_errors_are_the_same_with_asyncio(aio):
    with pytest.raises(InferenceServerException) as caught:
        await aio.infer("rose", features())
    assert caught.value.status() == "404" and "`rose`" in caught.value.message()


def test_loading_is_for_the_admin_listener(client, server):
    assert "--admin-port" in refused(403, client.load_model, "iris")
    assert "--admin-port" in refused(403, client.unload_model, "iris")
    admin = server.admin.removeprefix("http://")
    headers = {"Authorization": f"Bearer {server.token}"}
    with triton.InferenceServerClient(admin) as manager:
        assert refused(401, manager.load_model, "iris")
        manager.unload_model("twice_int8", headers=headers)
        assert not client.is_model_ready("twice_int8")
        manager.load_model("twice_int8", headers=headers)
        assert client.is_model_ready("twice_int8")
        index = manager.get_model_repository_index(headers=headers)
        assert "twice_int8" in {row["name"] for row in index}
        assert "`config`" in refused(501, manager.load_model, "iris", headers=headers, config="{}")
        files = {"file:1/model.onnx": b"x"}
        refused(501, manager.load_model, "iris", headers=headers, config="{}", files=files)
        refused(404, manager.load_model, "rose", headers=headers)
    assert client.is_model_ready("iris")


def test_what_is_not_there_says_so(client):
    assert client.get_system_shared_memory_status() == []
    assert client.get_cuda_shared_memory_status() == []
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    refused(501, client.register_system_shared_memory, "region", "/key", 64)
    refused(501, client.register_cuda_shared_memory, "region", b"handle", 0, 64)
    assert client.get_trace_settings()["trace_level"] == ["OFF"]
    assert client.get_trace_settings("iris")["trace_level"] == ["OFF"]
    refused(404, client.get_trace_settings, "rose")
    refused(501, client.update_trace_settings, settings={"trace_level": ["TIMESTAMPS"]})
    assert client.get_log_settings()["log_error"] is True
    refused(501, client.update_log_settings, {"log_verbose_level": 1})


def test_a_path_in_front_of_all_others(binary, models):
    from server import Server

    with Server(binary, [models / "iris", "--engine", "tract", "--base-path", "/models-api"]) as server:
        address = server.http
        if not address.endswith("/models-api"):
            address += "/models-api"
        with triton.InferenceServerClient(address) as client:
            assert client.is_server_ready()
            assert client.infer("iris", features()).as_numpy("label").tolist() == [0, 2]


def test_bodies_that_lie_about_their_lengths_are_refused(server):
    def post(body, **headers):
        request = urllib.request.Request(f"http://{server.http}/v2/models/iris/infer", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            assert json.loads(error.read())["error"]
            return error.code

    body, length = triton.InferenceServerClient.generate_request_body(features())
    name = "Inference-Header-Content-Length"
    assert post(body, **{name: str(length)}) == 200
    for wrong in [0, 1, length - 1, length + 1, len(body), len(body) + 1, 2**64, -1, "x"]:
        assert post(body, **{name: str(wrong)}) == 400, wrong
    assert post(body + b"x", **{name: str(length)}) == 400
    assert post(body[:-1], **{name: str(length)}) == 400
