"""The package itself: what it costs to import, its client, its server, its logging, and the plugin."""

import contextlib
import http.server
import json
import subprocess
import sys
import threading

import joblib
import mlflow
import numpy as np
import onstage
import pandas as pd
import pytest
from conftest import ROOT, free_port
from mlflow.deployments import get_deploy_client
from models import LEAVES, NUMBERS, SEEN, columns
from onstage import deployments
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

IRIS = ROOT / "model-examples" / "iris"
ROWS = SEEN[NUMBERS].fillna(0)


@contextlib.contextmanager
def answering(status, body):
    """A server that answers every POST with this; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=ROOT / "python")


def test_importing_it_imports_nothing_heavy():
    found = python("-c", "import sys; before = set(sys.modules); import onstage; print(*set(sys.modules) - before)")
    names = {name.split(".")[0] for name in found.stdout.split()}
    assert names <= {
        "onstage",
        "typing",
        "collections",
        "functools",
        "operator",
        "re",
        "types",
        "enum",
        "copyreg",
        "__future__",
    } | set(sys.stdlib_module_names)
    assert len(found.stdout.split()) < 40


def test_every_name_is_there():
    for name in onstage.__all__:
        assert getattr(onstage, name) is not None
    with pytest.raises(AttributeError, match="no attribute `other`"):
        onstage.other  # noqa: B018
    for name in onstage.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(onstage, name), onstage.OnstageError)


def test_a_server_for_a_block():
    with onstage.serve(IRIS) as client:
        assert client.ready()
        found = client.predict(np.array([[5.1, 3.5, 1.4, 0.2]], np.float32))
        assert found["label"] == [0]
        with pytest.raises(onstage.RequestError) as refused:
            client.predict([["text"]])
        assert refused.value.status == 400
        with pytest.raises(onstage.RequestError) as unknown:
            onstage.Client(client.url, model="none").predict([[1.0]])
        assert unknown.value.status == 404
        url = client.url
    with pytest.raises(onstage.ServerError, match="does not answer"):
        onstage.Client(url).predict([[1.0]])


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(onstage.StartError, match="ended with code"), onstage.serve(tmp_path / "none"):
        pass
    with pytest.raises(onstage.StartError, match="nothing to serve"), onstage.serve():
        pass


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, b"<html>", onstage.ServerError),
        (503, b'{"message": "later"}', onstage.ServerError),
        (429, b'{"error": "slower"}', onstage.RequestError),
        (200, b"no json", onstage.ServerError),
        (200, b"[]", onstage.ServerError),
    ],
)
def test_answers_of_any_kind_are_errors_of_ours(status, body, kind):
    with answering(status, body) as address, pytest.raises(kind):
        onstage.Client(address).predict([[1]])


def test_data_of_any_kind_become_json():
    from onstage._client import plain, request_of

    frame = pd.DataFrame(
        {"a": [1.0, np.nan], "b": pd.array([1, None], "Int64"), "c": pd.to_datetime(["2026-01-02", None]), "d": [True, False]}
    )
    found = json.loads(json.dumps(plain(request_of(frame))))
    assert found["dataframe_split"]["data"] == [[1.0, 1, "2026-01-02T00:00:00", True], [None, None, None, False]]
    assert plain(request_of({"x": np.arange(2, dtype=np.int32)})) == {"inputs": {"x": [0, 1]}}
    with pytest.raises(onstage.RequestError, match="inf"):
        plain(request_of([[np.inf]]))
    with pytest.raises(onstage.RequestError, match="is no data"):
        request_of("text")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_of_a_file_show_the_parity(tmp_path, suffix):
    model = make_pipeline(columns(), LogisticRegression(max_iter=500)).fit(SEEN, LEAVES)
    path = tmp_path / f"rows.{suffix}"
    SEEN.to_csv(path, index=False) if suffix == "csv" else SEEN.to_parquet(path, index=False)
    joblib.dump(model, tmp_path / "model.joblib")
    command = [sys.executable, "-m", "onstage._convert.command", tmp_path / "model.joblib", "--data", path]
    done = subprocess.run([*command, "-o", tmp_path / "package", "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)["parity"]
    assert (report["rows"], report["rows_given"], report["labels_agree"]) == (1200, 1200, 1200)
    assert "which runs the code in it" in done.stderr


def test_log_model_in_the_form_of_mlflow(registry):
    model = LogisticRegression().fit(ROWS, LEAVES)
    with mlflow.start_run() as run:
        info = onstage.log_model(model, name="fraud", input_example=ROWS.head(3), registered_model_name="logged")
    assert info.run_id == run.info.run_id
    assert "onnx" in info.flavors
    assert mlflow.MlflowClient().get_model_version("logged", "1").run_id == run.info.run_id


def test_the_life_of_a_deployment(registry):
    model = LogisticRegression().fit(ROWS, LEAVES)
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model,
            name="model",
            input_example=ROWS.head(3),
            registered_model_name="source",
            serialization_format="cloudpickle",
            pip_requirements=[],
        )
    port = free_port()
    client = get_deploy_client(f"onstage:/http://127.0.0.1:{port}")
    found = client.create_deployment("deployed", "models:/source/1")
    assert (found["version"], found["alias"]) == ("1", "champion")
    with onstage.serve("models:/deployed@champion", registry=registry, options=["--port", str(port)]):
        assert client.get_deployment("deployed")["state"] == "READY"
        assert len(client.predict("deployed", ROWS.head(4)).get_predictions()) == 4
    assert {"name": "deployed", "version": "1", "alias": "champion"} in client.list_deployments()
    with pytest.raises(onstage.OnstageError, match="no deployment `none`"):
        client.update_deployment("none", "models:/source/1")
    assert client.update_deployment("deployed", "models:/source/1")["version"] == "2"
    narrow = LogisticRegression().fit(ROWS[NUMBERS[:2]], LEAVES)
    with pytest.raises(onstage.OnstageError, match="cannot take the place"):
        with mlflow.start_run():
            info = mlflow.sklearn.log_model(
                narrow,
                name="model",
                input_example=ROWS[NUMBERS[:2]].head(3),
                serialization_format="cloudpickle",
                pip_requirements=[],
            )
        client.update_deployment("deployed", info.model_uri)
    assert len(mlflow.MlflowClient().search_model_versions("name='deployed'")) == 2
    client.delete_deployment("deployed")
    with pytest.raises(onstage.OnstageError, match="no deployment `deployed`"):
        client.delete_deployment("deployed")
    assert len(mlflow.MlflowClient().search_model_versions("name='deployed'")) == 2


def test_an_update_waits_for_a_rollout(registry):
    """While the server moves the model, nothing is registered; `force` insists."""

    loading = json.dumps([{"name": "rolling", "version": "1", "state": "LOADING"}]).encode()
    with answering(200, loading) as address:
        client = get_deploy_client(f"onstage:/{address}")
        client.create_deployment("rolling", str(IRIS))
        with pytest.raises(onstage.OnstageError, match="is loading version 1 of `rolling`"):
            client.update_deployment("rolling", str(IRIS))
        assert len(mlflow.MlflowClient().search_model_versions("name='rolling'")) == 1
        assert client.update_deployment("rolling", str(IRIS), config={"force": "true"})["version"] == "2"


def test_an_alias_is_not_converted_without_trust(registry):
    mlflow.MlflowClient().set_registered_model_alias("source", "any", "1")
    with pytest.raises(onstage.ConversionError, match="trusted=true"):
        deployments.OnstageClient("onstage").create_deployment("trusting", "models:/source@any")
    assert not mlflow.MlflowClient().search_registered_models("name = 'trusting'")
