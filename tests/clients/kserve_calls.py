"""What a program with KServe's client over gRPC does; run by `grpc_kserve.py` in a process of its own.

KServe's and Triton's client both bring the messages of the protocol, and one process cannot hold both.
"""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

IRIS = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]], np.float32)


def request(model, binary, array=IRIS):
    """A request as raw bytes, or as typed elements."""
    given = InferInput("features", list(array.shape), "FP32")
    given.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[given], request_id="7")


async def calls(address):
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("iris")
        for binary in [True, False]:
            answer = await client.infer(request("iris", binary))
            assert (answer.id, answer.model_name, answer.model_version) == ("7", "iris", "1")
            outputs = {output.name: output.as_numpy() for output in answer.outputs}
            assert outputs["label"].tolist() == [0, 2]
            assert outputs["probabilities"].shape == (2, 3)
        for model, array, code in [
            ("rose", IRIS, grpc.StatusCode.NOT_FOUND),
            ("iris", IRIS[:, :3].copy(), grpc.StatusCode.INVALID_ARGUMENT),
        ]:
            try:
                await client.infer(request(model, True, array))
            except grpc.RpcError as error:
                assert error.code() == code, error
            else:
                raise AssertionError(f"{model} was answered")
    print("all calls were answered")


asyncio.run(calls(sys.argv[1]))
