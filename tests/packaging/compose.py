"""compose.yaml: its services started by hand on free ports, as its images cannot be fetched everywhere; the loop must close."""

import json
import re
import urllib.parse

import yaml
from shell import IRIS, ROOT, ask, environment, free_port, predicts, process, ready, run, until

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def on_this_machine(text, ports, scratch):
    """What a service is told, with hosts, ports and folders of this machine."""
    for name, port in ports.items():
        text = re.sub(rf"\b{name}:\d+", f"127.0.0.1:{port}", text)
    return text.replace("0.0.0.0", "127.0.0.1").replace("////mnt", f"///{scratch}").replace("/cache", f"{scratch}/cache")


def test_a_promotion_in_mlflow_is_served_and_seen_by_prometheus(binary, tools, request, tmp_path):
    python = request.config.getoption("--mlflow-python")
    ports = {"mlflow": free_port(), "onstage": free_port(), "prometheus": free_port()}
    mlflow = [part.replace("--port=5000", f"--port={ports['mlflow']}") for part in COMPOSE["mlflow"]["command"]]
    mlflow = [on_this_machine(part, ports, tmp_path).replace("/mlflow/", f"{tmp_path}/") for part in mlflow]
    mlflow = [part.replace("localhost:5000,127.0.0.1:5000", f"localhost:{ports['mlflow']}") for part in mlflow]
    server = f"http://127.0.0.1:{ports['mlflow']}"
    # Else it starts eight processes for jobs that this test has not, each of which imports MLflow.
    variables = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with process(python, "-m", *mlflow, log=tmp_path / "mlflow.log", cwd=tmp_path, env=variables):
        until(lambda: ask(f"127.0.0.1:{ports['mlflow']}", "/health")[0] == 200, "MLflow answers", seconds=120)
        onstage = [on_this_machine(part, ports, tmp_path) for part in COMPOSE["onstage"]["command"]]
        address = f"127.0.0.1:{ports['onstage']}"
        onstage += [f"--port={ports['onstage']}", "--grpc-port=0"]
        with process(binary, *onstage, log=tmp_path / "onstage.log", env=environment()):
            ready(address)
            promote(python, server, tmp_path)
            until(lambda: ask(address, "/v2/models/iris/ready")[0] == 200, "the champion is on stage")
            assert predicts(address, "/models/iris/invocations")
            text = on_this_machine((ROOT / "docker/prometheus.yml").read_text(), ports, tmp_path)
            (tmp_path / "prometheus.yml").write_text(text)
            for rules in ("alerts.yaml", "recording.yaml"):
                (tmp_path / rules).write_text((ROOT / "helm/onstage/files" / rules).read_text())
            arguments = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
            arguments += [f"--web.listen-address=127.0.0.1:{ports['prometheus']}"]
            with process(tools / "debian/usr/bin/prometheus", *arguments, log=tmp_path / "prometheus.log"):
                query = urllib.parse.urlencode({"query": 'onstage_model_alias_info{model="iris",alias="@champion"}'})

                def seen():
                    status, body = ask(f"127.0.0.1:{ports['prometheus']}", f"/api/v1/query?{query}")
                    return status == 200 and json.loads(body)["data"]["result"]

                until(seen, "Prometheus knows where the alias leads")


def promote(python, server, scratch):
    """Registers iris in MLflow, as its users do."""
    program = """
import sys, mlflow
package, uri = sys.argv[1:]
mlflow.set_tracking_uri(uri)
with mlflow.start_run() as run:
    mlflow.log_artifacts(package, "model")
version = mlflow.tracking.MlflowClient().create_registered_model("iris") and mlflow.tracking.MlflowClient().create_model_version(
    "iris", f"{run.info.artifact_uri}/model", run.info.run_id)
mlflow.tracking.MlflowClient().set_registered_model_alias("iris", "champion", version.version)
"""
    run(python, "-c", program, IRIS, server, cwd=scratch, env=environment())


def test_what_it_mounts_and_builds_is_there():
    for mount in COMPOSE["prometheus"]["volumes"]:
        assert (ROOT / mount.split(":")[0]).is_file(), mount
    targets = re.findall(r"(?m)^FROM .* AS (\w+)$", (ROOT / "Dockerfile").read_text())
    assert COMPOSE["onstage"]["build"]["target"] in targets
    # Everything is reached from this machine only.
    ports = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
