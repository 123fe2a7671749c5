"""KServe's own client: V1, and V2 over REST."""

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

IRIS = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]


@pytest.fixture
def url(server):
    return f"http://{server.http}"


@pytest.fixture
async def v1():
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    yield client
    await client.close()


@pytest.fixture
async def v2():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    yield client
    await client.close()


def request(in_bytes):
    features = InferInput("features", [2, 4], "FP32")
    features.set_data_from_numpy(np.array(IRIS, np.float32), binary_data=in_bytes)
    return InferRequest(model_name="iris", infer_inputs=[features], request_id="7")


async def test_v1_predicts_a_row_for_each_instance(v1, url):
    answer = await v1.infer(url, {"instances": IRIS}, model_name="iris")
    assert [row["label"] for row in answer["predictions"]] == [0, 2]
    assert all(len(row["probabilities"]) == 3 for row in answer["predictions"])


async def test_v1_says_that_server_and_model_are_there(v1, url):
    assert await v1.is_server_live(url)
    assert await v1.is_model_ready(url, "iris") is True


async def test_v1_errors_have_a_status_and_a_message(v1, url):
    with pytest.raises(httpx.HTTPStatusError, match="no model named `rose`") as unknown:
        await v1.infer(url, {"instances": IRIS}, model_name="rose")
    assert unknown.value.response.status_code == 404
    with pytest.raises(httpx.HTTPStatusError, match="features") as wrong:
        await v1.infer(url, {"instances": [["a"]]}, model_name="iris")
    assert wrong.value.response.status_code == 400
    with pytest.raises(httpx.HTTPStatusError) as missing:
        await v1.explain(url, model_name="iris", data={"instances": IRIS})
    assert missing.value.response.status_code == 501


@pytest.mark.parametrize("in_bytes", [False, True])
async def test_v2_gives_the_same_labels(v2, url, in_bytes):
    assert await v2.is_server_ready(url) and await v2.is_server_live(url)
    assert await v2.is_model_ready(url, "iris")
    answer = await v2.infer(url, request(in_bytes), model_name="iris")
    assert answer.id == "7"
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    assert outputs["label"].tolist() == [0, 2]
    assert outputs["probabilities"].shape == (2, 3)
