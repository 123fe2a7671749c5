"""The manifests for KServe: by its rules, and with the real binary started as KServe would."""

import json
import shutil
import sys

import pytest
import yaml
from shell import IRIS, ROOT, ask, environment, free_port, predicts, process, ready, run

MANIFESTS = ROOT / "kserve"
KINDS = {"clusterservingruntime.yaml": "ClusterServingRuntime", "servingruntime.yaml": "ServingRuntime"}


def load(name):
    return yaml.safe_load((MANIFESTS / name).read_text())


def test_both_runtimes_say_the_same():
    cluster, own = (load(name) for name in KINDS)
    assert (cluster.pop("kind"), own.pop("kind")) == tuple(KINDS.values())
    assert cluster == own


def test_it_is_chosen_before_the_built_in_runtimes():
    spec = load("clusterservingruntime.yaml")["spec"]
    onnx = spec["supportedModelFormats"][0]
    assert onnx["name"] == "onnx" and onnx["autoSelect"] and onnx["priority"] > 2
    # Without a wish the protocol is v1.
    assert spec["protocolVersions"] == ["v1", "v2", "grpc-v2"]
    assert spec["containers"][0]["name"] == "kserve-container"
    # The first port becomes the service's; Knative knows `http1`.
    assert spec["containers"][0]["ports"][0] == {"name": "http1", "containerPort": 8080, "protocol": "TCP"}
    assert load("inferenceservice.yaml")["spec"]["predictor"]["model"]["runtime"] == load("clusterservingruntime.yaml")["metadata"]["name"]


def test_its_container_follows_the_schema_of_a_pod(tmp_path):
    for name in KINDS:
        containers = load(name)["spec"]["containers"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": containers}}
        (tmp_path / name).write_text(yaml.safe_dump(pod))
        run(f"{sys.prefix}/bin/kubernetes-validate", "--strict", tmp_path / name)


def as_a_file(directory):
    shutil.copy(IRIS / "model.onnx", directory)


def as_a_package(directory):
    shutil.copytree(IRIS, directory, dirs_exist_ok=True)


def as_numbered_versions(directory):
    for version in ("1", "2"):
        shutil.copytree(IRIS, directory / version)


def as_a_tree_of_triton(directory):
    (directory / "anything" / "1").mkdir(parents=True)
    shutil.copy(IRIS / "model.onnx", directory / "anything" / "1")


@pytest.mark.parametrize("layout", [as_a_file, as_a_package, as_numbered_versions, as_a_tree_of_triton])
def test_each_layout_of_storage_is_served_on_every_protocol(binary, tmp_path, layout):
    models = tmp_path / "models"
    models.mkdir()
    layout(models)
    http, grpc = free_port(), free_port()
    given = load("clusterservingruntime.yaml")["spec"]["containers"][0]["args"]
    given = [argument.replace("{{.Name}}", "demo").replace("/mnt/models", str(models)) for argument in given]
    # As those of an InferenceService, which are appended: the last counts.
    arguments = [*given, "--host=127.0.0.1", f"--http-port={http}", f"--grpc-port={grpc}"]
    address = f"127.0.0.1:{http}"
    with process(binary, *arguments, log=tmp_path / "log", env=environment()):
        ready(address)
        assert predicts(address, "/invocations")
        status, answer = ask(address, "/v1/models/demo:predict", b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}')
        assert status == 200 and json.loads(answer)["predictions"], answer
        metadata = json.loads(ask(address, "/v2/models/demo")[1])
        tensor = {"name": metadata["inputs"][0]["name"], "shape": [1, 4], "datatype": metadata["inputs"][0]["datatype"], "data": [5.1, 3.5, 1.4, 0.2]}
        status, answer = ask(address, "/v2/models/demo/infer", json.dumps({"inputs": [tensor]}).encode())
        assert status == 200 and json.loads(answer)["model_name"] == "demo", answer


def test_the_documentation_shows_the_manifest():
    page = (ROOT / "docs/guides/clouds.md").read_text()
    assert "kserve/clusterservingruntime.yaml" in page and "kserve/inferenceservice.yaml" in page
