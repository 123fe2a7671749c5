"""Triton's own client over gRPC, in its plain and its asyncio form."""

import os
import queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from server import Server
from tensors import TENSORS, twice
from tritonclient.utils import InferenceServerException

IRIS = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]], np.float32)
CODINGS = [None, "gzip", "deflate"]


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.grpc) as client:
        yield client


@pytest.fixture
async def aio(server):
    async with triton_aio.InferenceServerClient(server.grpc) as client:
        yield client


@pytest.fixture(scope="module")
def patient(binary):
    """A server whose requests wait for company until there are four rows; its warm-up would wait, too."""
    arguments = ["model-examples/iris", "--engine", "tract", "--max-batch-size", "4", "--max-queue-delay", "50s"]
    environment = {"PATH": os.environ["PATH"], "ONSTAGE_MODELS__IRIS__WARMUP": "false"}
    with Server(binary, arguments, environment) as server, triton.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(name, array, datatype):
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def wanted(name, **options):
    return triton.InferRequestedOutput(name, **options)


def features(array=IRIS):
    return [tensor("features", array, "FP32")]


def refused(code, call, *arguments, **named):
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **named)
    assert caught.value.status() == f"StatusCode.{code}", caught.value
    return caught.value.message()


def check_iris(result):
    assert result.as_numpy("label").tolist() == [0, 2]
    assert result.as_numpy("probabilities").shape == (2, 3)


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("iris") and client.is_model_ready("iris", "1")
    assert not client.is_model_ready("rose") and not client.is_model_ready("iris", "7")
    server = client.get_server_metadata()
    assert server.name == "onstage"
    assert {"statistics", "model_configuration", "classification", "parameters"} <= set(server.extensions)
    model = client.get_model_metadata("twice_float32")
    assert list(model.versions) == ["1", "2"]
    (given,) = model.inputs
    assert (given.name, given.datatype, list(given.shape)) == ("x", "FP32", [-1, 2])
    assert client.get_model_metadata("iris", as_json=True)["platform"] == "onnxruntime_onnx"


def test_configuration(client):
    config = client.get_model_config("iris").config
    assert (config.name, config.backend, config.platform) == ("iris", "onnxruntime", "onnxruntime_onnx")
    assert config.max_batch_size > 0 and list(config.input[0].dims) == [4]
    assert config.instance_group[0].count >= 1
    assert not config.model_transaction_policy.decoupled
    # Twice as many rows come out as go in, so there is no batch axis.
    config = client.get_model_config("twice_float32", "1").config
    assert config.max_batch_size == 0 and list(config.input[0].dims) == [-1, 2]


def test_statistics_grow_by_what_was_asked(client):
    def now():
        (model,) = client.get_inference_statistics("iris", "1").model_stats
        return model

    before = now()
    for _ in range(3):
        client.infer("iris", features())
    after = now()
    assert after.inference_stats.success.count - before.inference_stats.success.count == 3
    assert after.inference_stats.queue.count - before.inference_stats.queue.count == 3
    assert after.inference_count - before.inference_count == 6
    assert after.execution_count - before.execution_count == 3
    assert after.last_inference >= before.last_inference > 0 or before.last_inference == 0
    assert sum(size.compute_infer.count for size in after.batch_stats) == after.execution_count
    everything = client.get_inference_statistics().model_stats
    assert {("iris", "1"), ("twice_float32", "2")} <= {(model.name, model.version) for model in everything}


def test_the_repository_lists_every_version(client):
    index = client.get_model_repository_index().models
    rows = {(row.name, row.version): row.state for row in index}
    assert rows["iris", "1"] == rows["twice_float32", "2"] == "READY"
    assert len(rows) == len(TENSORS) + 3


@pytest.mark.parametrize("datatype", TENSORS)
def test_every_datatype(client, datatype):
    model, array = TENSORS[datatype]
    result = client.infer(model, [tensor("x", array, datatype)])
    expected = twice(datatype)
    found = result.as_numpy("y")
    assert result.get_output("y").datatype == datatype
    # The client has no numpy type for BF16 and gives it as singles.
    assert found.tolist() == expected.astype(np.float32).tolist() if datatype == "BF16" else (found == expected).all()


@pytest.mark.parametrize("datatype", TENSORS)
async def test_every_datatype_with_asyncio(aio, datatype):
    model, array = TENSORS[datatype]
    result = await aio.infer(model, [tensor("x", array, datatype)])
    found, expected = result.as_numpy("y"), twice(datatype)
    assert found.tolist() == expected.astype(np.float32).tolist() if datatype == "BF16" else (found == expected).all()


@pytest.mark.parametrize("coding", CODINGS)
def test_every_compression(client, coding):
    check_iris(client.infer("iris", features(), compression_algorithm=coding))


@pytest.mark.parametrize("coding", CODINGS)
async def test_every_compression_with_asyncio(aio, coding):
    check_iris(await aio.infer("iris", features(), compression_algorithm=coding))


def test_outputs_ids_and_parameters(client):
    result = client.infer(
        "iris",
        features(),
        model_version="1",
        request_id="7",
        outputs=[wanted("probabilities"), wanted("label")],
        priority=1,
        timeout=5_000_000,
        parameters={"trace": "yes", "share": 0.5},
    )
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "iris", "1")
    assert [output.name for output in answer.outputs] == ["probabilities", "label"]
    assert len(answer.raw_output_contents) == 2
    only = client.infer("iris", features(), outputs=[wanted("label")])
    assert only.as_numpy("probabilities") is None


def test_classes_are_texts(client):
    result = client.infer("iris", features(), outputs=[wanted("probabilities", class_count=2)])
    classes = result.as_numpy("probabilities")
    assert classes.shape == (2, 2)
    assert [best.split(b":")[1] for best in classes[:, 0]] == [b"0", b"2"]


def test_maps_are_scores_with_labels(client):
    (given,) = client.get_model_metadata("zip_map_text").inputs
    rows = np.zeros([1 if size < 0 else size for size in given.shape], np.float32)
    result = client.infer("zip_map_text", [tensor(given.name, rows, given.datatype)])
    labelled = [output for output in result.get_response().outputs if "labels" in output.parameters]
    assert len(labelled) == 1 and labelled[0].datatype == "FP32"


def test_errors_are_codes(client):
    assert "rose" in refused("NOT_FOUND", client.infer, "rose", features())
    assert "7" in refused("NOT_FOUND", client.infer, "iris", features(), model_version="7")
    wrong = [tensor("petals", IRIS, "FP32")]
    assert "`petals`" in refused("INVALID_ARGUMENT", client.infer, "iris", wrong)
    narrow = features(IRIS[:, :3].copy())
    assert "[2, 3]" in refused("INVALID_ARGUMENT", client.infer, "iris", narrow)
    unknown = [wanted("class")]
    assert "`class`" in refused("INVALID_ARGUMENT", client.infer, "iris", features(), outputs=unknown)
    assert "--admin-port" in refused("PERMISSION_DENIED", client.load_model, "iris")
    refused("PERMISSION_DENIED", client.unload_model, "iris")
    refused("NOT_FOUND", client.get_model_config, "rose")
    refused("NOT_FOUND", client.get_inference_statistics, "rose")
    refused("UNIMPLEMENTED", client.register_system_shared_memory, "region", "/key", 64)


def test_what_clients_call_to_tidy_up_does_no_harm(client):
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    assert not client.get_system_shared_memory_status().regions
    assert not client.get_cuda_shared_memory_status().regions


def test_a_deadline_of_the_client_ends_a_request_that_waits(patient):
    one = features(IRIS[:1])
    refused("DEADLINE_EXCEEDED", patient.infer, "iris", one, client_timeout=0.3)
    refused("DEADLINE_EXCEEDED", patient.infer, "iris", one, timeout=300_000)


def stream(client, **named):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)), **named)
    return answers


def test_a_stream_answers_in_order_and_survives_errors(client):
    answers = stream(client)
    for number in range(20):
        model = "rose" if number == 7 else "iris"
        client.async_stream_infer(model, features(), request_id=str(number), enable_empty_final_response=True)
    for number in range(20):
        result, error = answers.get(timeout=30)
        if number == 7:
            assert "rose" in error.message()
            continue
        assert error is None
        answer = result.get_response()
        assert answer.id == str(number)
        assert answer.parameters["triton_final_response"].bool_param
        check_iris(result)
    client.stop_stream()


def test_a_stream_ends_with_a_status_when_asked(client):
    answers = stream(client, headers={"triton_grpc_error": "true"})
    client.async_stream_infer("rose", features())
    result, error = answers.get(timeout=30)
    assert result is None and error.status() == "StatusCode.NOT_FOUND"
    client.stop_stream()


async def test_a_stream_with_asyncio(aio):
    async def requests():
        for number in range(5):
            yield {"model_name": "iris", "inputs": features(), "request_id": str(number)}

    answers = [answer async for answer in aio.stream_infer(requests(), compression_algorithm="gzip")]
    assert [result.get_response().id for result, _ in answers] == list("01234")
    assert all(error is None for _, error in answers)


def test_a_cancelled_request_ends_at_once_and_the_next_one_is_answered(patient):
    answers = queue.Queue()
    call = patient.async_infer("iris", features(), lambda result, error: answers.put((result, error)))
    call.cancel()
    result, error = answers.get(timeout=30)
    assert result is None and error.status() == "StatusCode.CANCELLED"
    # Four rows are a batch and wait for nobody.
    result = patient.infer("iris", features(np.concatenate([IRIS, IRIS])))
    assert result.as_numpy("label").tolist() == [0, 2, 0, 2]


def test_health_checks_and_reflection_are_there(server):
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        for name in [b"", b"inference.GRPCInferenceService"]:
            # The field `service`, 1, of the request; `SERVING`, 1, in the field `status`, 1, of the answer.
            assert check(b"\x0a" + bytes([len(name)]) + name, timeout=30) == b"\x08\x01"
        reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        # The field `list_services`, 7, of the request.
        (answer,) = list(reflect(iter([b"\x3a\x00"]), timeout=30))
        assert b"inference.GRPCInferenceService" in answer and b"grpc.health.v1.Health" in answer
