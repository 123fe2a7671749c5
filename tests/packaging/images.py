"""The images, built and run by a real Docker Engine; the chart's pod, started by podman."""

import functools
import json
import os
import re
import shutil
import tempfile
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from objects import configuration, parse, the
from shell import CHART, IRIS, REQUEST, ask, free_port, predicts, ready, run, until

TARGETS = ["embedded", "full"]
LOCKED = ["--network", "host", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
UNREACHABLE = ["-e", "ONSTAGE_REGISTRY__URI=http://127.0.0.1:9"]
SMALL = ["--memory", "256m", "--cpus", "1"]


@contextmanager
def running(docker, image, *arguments, options=()):
    """A container in the background, and the address of its server."""
    port = free_port()
    settings = ["-e", f"ONSTAGE_SERVER__PORT={port}", "-e", f"ONSTAGE_SERVER__GRPC_PORT={free_port()}"]
    name = docker("run", "-d", *LOCKED, *SMALL, *settings, *options, image, *arguments).split()[-1]
    try:
        yield name, f"127.0.0.1:{port}"
    except AssertionError:
        print(docker("logs", name))
        raise
    finally:
        docker("rm", "-f", name)


def state(docker, name):
    return docker.inspect(name)["State"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_serves_its_example_locked_in_256_mib(docker, images, target):
    with running(docker, images[target], "serve", "/models/iris") as (name, address):
        ready(address)
        assert predicts(address)
        until(lambda: state(docker, name)["Health"]["Status"] == "healthy", "the health check is content")
        top = docker("top", name, "-o", "pid,uid,comm")
        assert re.findall(r"(?m)^\s*\d+\s+(\d+)\s+onstage", top) == ["65532"], top
        assert not state(docker, name)["OOMKilled"]


def test_the_engines_are_those_of_the_target(docker, images):
    def engines(target):
        said = json.loads(docker("run", "--rm", *LOCKED, images[target], "doctor", "--json"))
        return json.dumps(said)

    assert "/usr/local/lib/libonnxruntime.so.1." in engines("full") and "loaded, version 1." in engines("full")
    assert "loaded, version 1." not in engines("embedded")


@pytest.mark.parametrize("example", ["penguins", "diabetes", "wine", "spam"])
def test_the_embedded_image_serves_every_classic_example(docker, images, example):
    package = IRIS.parent / example
    with running(docker, images["embedded"], options=["-v", f"{package}:/mnt/models/{example}:ro"]) as (_, address):
        ready(address)
        status, answer = ask(address, "/invocations", (package / "request.json").read_bytes())
        assert status == 200, answer


def test_full_runs_what_needs_onnx_runtime_and_embedded_says_why_not(docker, images):
    """A datatype that neither of the engines in the program has."""
    model = IRIS.parent.parent / "tests/models/twice_bfloat16.onnx"
    mount = ["-v", f"{model}:/mnt/models/twice.onnx:ro"]
    with running(docker, images["full"], "serve", "/mnt/models/twice.onnx", options=mount) as (_, address):
        ready(address)
    with running(docker, images["embedded"], "serve", "/mnt/models/twice.onnx", options=mount) as (name, _):
        until(lambda: state(docker, name)["Status"] == "exited", "it gives up")
        assert state(docker, name)["ExitCode"] == 1
        assert "onnxruntime" in docker("logs", name).lower()


def test_a_mounted_model_is_found_without_arguments(docker, images):
    with running(docker, images["embedded"], options=["-v", f"{IRIS}:/mnt/models/iris:ro"]) as (_, address):
        ready(address)
        assert predicts(address)


def test_sagemaker_starts_it_with_serve_alone(docker, images):
    port = free_port()
    options = ["-v", f"{IRIS}:/opt/ml/model:ro", "-e", f"SAGEMAKER_BIND_TO_PORT={port}", "-e", "ONSTAGE_SERVER__PORT="]
    with running(docker, images["embedded"], "serve", options=options):
        address = f"127.0.0.1:{port}"
        until(lambda: ask(address, "/ping") == (200, ask(address, "/ping")[1]), "the platform's probe is content")
        assert predicts(address)


def test_another_user_without_a_home_works(docker, images):
    with running(docker, images["full"], "serve", "/models/iris", options=["--user", "1234567890:0"]) as (name, address):
        ready(address)
        assert predicts(address)
        assert "1234567890" in docker("top", name, "-o", "pid,uid,comm")


def test_stopping_under_load_fails_no_request(docker, images):
    """Clients look away once the server is unready, as a Service does; until then everything is answered."""
    delay = ["-e", "ONSTAGE_SERVER__SHUTDOWN_DELAY=2s"]
    with running(docker, images["full"], "serve", "/models/iris", options=delay) as (name, address):
        ready(address)
        clients = Clients(address)
        until(lambda: clients.answered > 50, "requests are answered")
        docker("stop", "-t", "40", name)
        assert clients.end() == []
        assert clients.unready.is_set() and state(docker, name)["ExitCode"] == 0, docker("logs", name)


class Clients:
    """Four clients that send until the server is unready."""

    def __init__(self, address):
        self.address = address
        self.unready = threading.Event()
        self.answered = 0
        self.failures = []
        rows = b",".join([b"[5.1, 3.5, 1.4, 0.2]"] * 2000)
        self.body = REQUEST.replace(b"[5.1, 3.5, 1.4, 0.2]", rows)
        self.threads = [threading.Thread(target=self._send) for _ in range(4)] + [threading.Thread(target=self._watch)]
        for thread in self.threads:
            thread.start()

    def end(self):
        for thread in self.threads:
            thread.join()
        return self.failures

    def _watch(self):
        try:
            until(lambda: ask(self.address, "/v2/health/ready")[0] != 200, "the server turns unready", seconds=120)
        finally:
            self.unready.set()

    def _send(self):
        while not self.unready.is_set():
            try:
                status, answer = ask(self.address, "/invocations", self.body)
            except OSError as error:
                status, answer = None, repr(error)
            if status == 200:
                self.answered += 1
            else:
                self.failures.append((status, answer))


def test_a_stop_while_models_load_ends_at_once_with_0(docker, images):
    """Nobody answers as the registry, so loading never ends."""
    options = [*UNREACHABLE, "--tmpfs", "/tmp", "-e", "ONSTAGE_REGISTRY__CACHE_DIR=/tmp/cache"]
    with running(docker, images["embedded"], "serve", "--follow", "@champion", options=options) as (name, address):
        until(lambda: ask(address, "/v2/health/live")[0] == 200, "the port is open while nothing is loaded")
        assert ask(address, "/v2/health/ready")[0] == 503
        docker("stop", "-t", "20", name)
        assert state(docker, name)["ExitCode"] == 0
        assert "stop" in docker("logs", name)


MISTAKES = [
    (["serve", "/no/such/model"], [], 1, "/no/such/model"),
    (["serve"], [], 2, "/mnt/models"),
    (["serve", "/models/iris"], ["-e", "ONSTAGE_SERVER__MAX_BODY=lots"], 78, "ONSTAGE_SERVER__MAX_BODY"),
    (["serve", "/models/iris", "--libonnxruntime", "/nowhere.so", "--engine", "onnxruntime"], [], 1, "/nowhere.so"),
    (["serve", "/models/iris", "--config", "/etc/onstage/config/onstage.toml"], [], 78, "/etc/onstage/config/onstage.toml"),
    (["serve", "--follow", "@champion"], [], 1, "--registry"),
    # Nothing can be written, not even /tmp.
    (["serve", "--follow", "@champion"], UNREACHABLE, 1, "name another directory in `registry.cache_dir`"),
]


@pytest.mark.parametrize(("arguments", "options", "code", "said"), MISTAKES, ids=[mistake[3] for mistake in MISTAKES])
def test_a_mistake_ends_the_container_with_its_code_and_a_message(docker, images, arguments, options, code, said):
    with running(docker, images["full"], *arguments, options=options) as (name, _):
        until(lambda: state(docker, name)["Status"] == "exited", "it ends")
        logs = docker("logs", name)
        assert state(docker, name)["ExitCode"] == code and said in logs, logs


def test_an_image_says_what_it_is(docker, images):
    for target in TARGETS:
        config = docker.inspect(images[target])["Config"]
        assert config["User"] == "65532:65532" and config["StopSignal"] == "SIGTERM"
        assert config["Entrypoint"] == ["/usr/local/bin/onstage"] and config["Cmd"] == ["serve"]
        assert config["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/onstage", "health"]
        assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
        assert "ONSTAGE_SERVER__HOST=0.0.0.0" in config["Env"]


def test_an_image_holds_its_bill_of_materials_and_little_else(docker, images, tools, tmp_path):
    for target in TARGETS:
        archive = tmp_path / f"{target}.tar"
        name = docker("create", images[target]).split()[-1]
        docker("export", "-o", archive, name)
        docker("rm", name)
        files = run("tar", "tf", archive).split()
        assert not [file for file in files if re.search(r"(^|/)(sh|bash|busybox|curl|apt|dpkg|python3?)$", file)]
        # Text models of ONNX Runtime ask for this locale.
        assert ("usr/lib/locale/en_US.utf8/LC_CTYPE" in files) == (target == "full")
        bill = json.loads(run("tar", "xOf", archive, "usr/share/onstage/onstage.spdx.json"))
        assert {"tract-onnx", "axum", "rustls"} <= {package["name"] for package in bill["packages"]}
        sizes = {name: os.path.getsize(tools / "bases/runtime.tar")}
        added = docker.inspect(images[target])["Size"] - sizes[name]
        print(f"{target}: {docker.inspect(images[target])['Size'] / 1e6:.1f} MB, {added / 1e6:.1f} MB above the base")


@pytest.fixture
def pod(docker, images, tools, tmp_path):
    """The chart's Deployment as podman takes it, on free ports; the address of its server."""
    archive = tmp_path / "image.tar"
    docker("save", "-o", archive, images["full"])
    # podman wants a short one.
    scratch = tempfile.mkdtemp(prefix="pod")
    podman = ["podman", "--root", f"{scratch}/root", "--runroot", f"{scratch}/run", "--runtime", shutil.which("runc", path="/usr/sbin:/usr/bin")]
    podman += ["--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]
    # podman asks for more open files and processes than every machine grants.
    (Path(scratch) / "containers.conf").write_text('[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n')
    run_podman = functools.partial(run, *podman, env={**os.environ, "CONTAINERS_CONF": f"{scratch}/containers.conf"})
    image, tag = run_podman("load", "-i", archive).split()[-1].rsplit(":", 1)
    port = free_port()
    # podman turns HTTP probes into curl, which the image lacks.
    sets = f"image.repository={image},image.tag={tag},config.server.port={port},config.server.grpc_port={free_port()}"
    text = run(tools / "helm4/helm/helm", "template", "onstage", CHART, "--set", f"{sets},probes.type=exec,image.pullPolicy=Never,replicaCount=1")
    deployment = the(parse(text), "Deployment")
    # podman knows no files of annotations.
    data = {"onstage.toml": configuration([deployment])}
    spec = deployment["spec"]["template"]["spec"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "config"] + [{"name": "config", "configMap": {"name": "config"}}]
    # Not with the network of the machine.
    del spec["containers"][0]["ports"]
    # What a Service called `onstage` in the namespace would inject without `enableServiceLinks: false`, which podman does not know.
    links = {"ONSTAGE_PORT": "tcp://10.0.0.1:80", "ONSTAGE_SERVICE_HOST": "10.0.0.1", "ONSTAGE_SERVICE_PORT": "80", "ONSTAGE_PORT_80_TCP": "tcp://10.0.0.1:80"}
    spec["containers"][0]["env"] += [{"name": key, "value": value} for key, value in links.items()]
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump_all([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": data}, deployment]))
    try:
        run_podman("kube", "play", "--network", "host", file)
        yield run_podman, f"127.0.0.1:{port}"
    finally:
        run_podman("kube", "down", file)
        run_podman("rmi", "--all", "--force")
        shutil.rmtree(scratch)


def test_podman_plays_the_deployment_and_it_answers(pod):
    podman, address = pod
    try:
        ready(address)
    except AssertionError:
        print(podman("pod", "logs", "onstage-pod-0"), podman("ps", "-a"))
        raise
    assert predicts(address)
    # gRPC, configuration and limits are those of the chart.
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        assert b"onstage_build_info" in answer.read()
    (name,) = [name for name in podman("ps", "--format", "{{.Names}}").split() if name.endswith("-onstage")]
    said = json.loads(podman("inspect", name))[0]
    assert said["HostConfig"]["ReadonlyRootfs"] and said["HostConfig"]["Memory"] == 1 << 30
