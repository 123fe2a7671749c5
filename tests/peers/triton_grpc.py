"""What Triton's `qa/L0_*` check over gRPC, asked with the messages that its Python client brings."""

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as services
from tritonclient.utils import InferenceServerException

EIGHT = np.arange(8, dtype=np.float32)
INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNIMPLEMENTED, DENIED = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield services.GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(server.grpc) as client:
        yield client


def given(name, datatype, shape, **contents):
    tensor = messages.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return tensor


def request(model, *inputs, raw=(), outputs=(), **parameters):
    asked = messages.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw)
    asked.outputs.extend(messages.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs)
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(asked.parameters[name], kind, value)
    return asked


X = given("x", "FP32", [1, 8])
ROW = EIGHT.tobytes()
TYPED = given("x", "FP32", [1, 8], fp32_contents=EIGHT)

# qa/L0_infer, qa/L0_input_validation: lengths, shapes and fields that contradict each other.
REFUSED = {
    "more bytes than the shape has": (request("same_float32", X, raw=[ROW + bytes(8)]), INVALID, "40"),
    "fewer bytes than the shape has": (request("same_float32", X, raw=[ROW[:24]]), INVALID, "24"),
    "no bytes": (request("same_float32", X), INVALID, "`x`"),
    "bytes for one input of three": (
        request("three_inputs", *[given(name, "FP32", [1, 8]) for name in "abc"], raw=[ROW]),
        INVALID,
        "raw_input_contents",
    ),
    "bytes of no input": (request("same_float32", X, raw=[ROW, ROW]), INVALID, "raw_input_contents"),
    "bytes beside typed elements": (request("same_float32", TYPED, raw=[ROW]), INVALID, "contents"),
    "too few typed elements": (
        request("same_float32", given("x", "FP32", [1, 8], fp32_contents=EIGHT[:7])),
        INVALID,
        "7",
    ),
    "typed elements in the field of another type": (
        request("same_float32", given("x", "FP32", [1, 8], int_contents=range(8))),
        INVALID,
        "`x`",
    ),
    "a whole number that does not fit": (
        request("same_uint8", given("x", "UINT8", [1, 2], uint_contents=[1, 256])),
        INVALID,
        "256",
    ),
    "a text longer than its tensor": (
        request("one_text", given("x", "BYTES", [1, 1]), raw=[b"\xff\0\0\0abc"]),
        INVALID,
        "`x`",
    ),
    "a negative dimension": (request("same_float32", given("x", "FP32", [-1, 8]), raw=[ROW]), INVALID, "shape"),
    "elements beyond 64 bits": (
        request("same_float32", given("x", "FP32", [2**4, 2**60 + 2]), raw=[bytes(4)]),
        INVALID,
        "`x`",
    ),
    "no inputs": (request("three_inputs"), INVALID, "`a`.*`b`.*`c`"),
    "an unknown input": (request("same_float32", X, given("z", "FP32", [1, 8]), raw=[ROW, ROW]), INVALID, "`z`"),
    "an input twice": (request("same_float32", X, X, raw=[ROW, ROW]), INVALID, "`x`"),
    "another datatype": (request("same_float32", given("x", "INT32", [1, 8]), raw=[ROW]), INVALID, "INT32"),
    "an unknown datatype": (request("same_float32", given("x", "FLOAT", [1, 8]), raw=[ROW]), INVALID, "FLOAT"),
    "an output twice": (request("same_float32", X, raw=[ROW], outputs=["y", "y"]), INVALID, "`y`"),
    "an unknown output": (request("same_float32", X, raw=[ROW], outputs=["z"]), INVALID, "`z`"),
    "a reserved parameter": (request("same_float32", X, raw=[ROW], triton_=True), INVALID, "triton_"),
    "an unknown model": (request("rose", X, raw=[ROW]), MISSING, "rose"),
    "no model": (request("", X, raw=[ROW]), MISSING, "model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_or_the_model_is_refused(stub, name):
    asked, code, says = REFUSED[name]
    with pytest.raises(grpc.RpcError, match=says) as caught:
        stub.ModelInfer(asked, timeout=60)
    assert caught.value.code() == code, caught.value


# qa/L0_parameters and qa/L0_infer: what is served, always as bytes.
SERVED = {
    "bytes": request("same_float32", X, raw=[ROW]),
    "typed elements": request("same_float32", TYPED),
    "parameters of every kind": request("same_float32", X, raw=[ROW], a="b", c=1, d=0.5, e=True),
    "an empty final answer is wanted": request("same_float32", X, raw=[ROW], triton_enable_empty_final_response=True),
    "a sequence of a model without state": request("same_float32", X, raw=[ROW], sequence_id="a", sequence_start=True),
    "no rows": request("same_float32", given("x", "FP32", [0, 8]), raw=[b""]),
}


@pytest.mark.parametrize("name", SERVED)
def test_what_is_served_comes_as_bytes(stub, name):
    answer = stub.ModelInfer(SERVED[name], timeout=60)
    (output,) = answer.outputs
    expected = b"" if name == "no rows" else ROW
    assert list(answer.raw_output_contents) == [expected] and not output.HasField("contents")
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [len(expected) // 32, 8])


def as_classes(client, model, array, datatype, name, count):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    wanted = triton.InferRequestedOutput("probabilities" if model == "iris" else "y", class_count=count)
    return client.infer(model, [tensor], outputs=[wanted])


def test_classes_of_numbers_but_not_of_texts(client):
    # qa/L0_parameters, class counts.
    row = np.array([[6.3, 3.3, 6.0, 2.5]], np.float32)
    found = as_classes(client, "iris", row, "FP32", "features", 5).as_numpy("probabilities")
    assert [text.decode().split(":")[1] for text in found[0]] == ["2", "1", "0"]
    texts = np.array([["a", "b"]], np.object_)
    with pytest.raises(InferenceServerException, match="BYTES"):
        as_classes(client, "same_text", texts, "BYTES", "x", 5)


def test_all_of_many_equal_scores_keep_their_order(client):
    ones = np.ones((1, 8), np.float32)
    found = as_classes(client, "same_float32", ones, "FP32", "x", 5).as_numpy("y")
    assert found.shape == (1, 5)
    assert [text.decode().split(":")[1] for text in found[0]] == list("01234")
    assert {float(text.decode().split(":")[0]) for text in found[0]} == {1.0}


def test_settings_are_told_and_stay_what_they_are(stub):
    # qa/L0_logging, qa/L0_trace: Triton changes them; here they are the operator's.
    log = stub.LogSettings(messages.LogSettingsRequest())
    assert log.settings["log_error"].bool_param and log.settings["log_info"].bool_param
    assert not log.settings["log_file"].string_param
    change = messages.LogSettingsRequest()
    change.settings["log_verbose_level"].uint32_param = 1
    traces = messages.TraceSettingRequest()
    traces.settings["trace_level"].value.append("TIMESTAMPS")
    for call, asked in [(stub.LogSettings, change), (stub.TraceSetting, traces)]:
        with pytest.raises(grpc.RpcError) as caught:
            call(asked)
        assert caught.value.code() == UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="iris"))
    assert caught.value.code() == DENIED


def test_every_call_of_the_service_is_known(stub):
    # qa/L0_grpc: whatever is not built says so; nothing is left without an answer.
    asked = {
        "ServerLive": messages.ServerLiveRequest(),
        "ServerReady": messages.ServerReadyRequest(),
        "ServerMetadata": messages.ServerMetadataRequest(),
        "ModelReady": messages.ModelReadyRequest(name="iris"),
        "ModelMetadata": messages.ModelMetadataRequest(name="iris"),
        "ModelConfig": messages.ModelConfigRequest(name="iris"),
        "ModelStatistics": messages.ModelStatisticsRequest(name="iris"),
        "RepositoryIndex": messages.RepositoryIndexRequest(),
        "TraceSetting": messages.TraceSettingRequest(),
        "LogSettings": messages.LogSettingsRequest(),
        "SystemSharedMemoryStatus": messages.SystemSharedMemoryStatusRequest(),
        "SystemSharedMemoryUnregister": messages.SystemSharedMemoryUnregisterRequest(),
        "CudaSharedMemoryStatus": messages.CudaSharedMemoryStatusRequest(),
        "CudaSharedMemoryUnregister": messages.CudaSharedMemoryUnregisterRequest(),
    }
    for name, message in asked.items():
        assert getattr(stub, name)(message, timeout=60) is not None, name
    for name in ["SystemSharedMemoryRegister", "CudaSharedMemoryRegister"]:
        message = getattr(messages, f"{name}Request")(name="region", byte_size=64)
        with pytest.raises(grpc.RpcError) as caught:
            getattr(stub, name)(message, timeout=60)
        assert caught.value.code() == UNIMPLEMENTED, name
