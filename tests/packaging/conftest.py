"""Where the binary and the tools are, and the engines that the tests share."""

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from shell import ROOT, process, run, until


# Files whose tests share an engine, servers, an environment or what Helm has rendered. The longest come first, so that no process ends
# long after the others.
TOGETHER = ["images.py", "wheel.py", "compose.py", "monitoring.py", "chart_live.py", "chart.py", "chart_test.py", "kserve.py"]


def pytest_addoption(parser):
    parser.addoption("--binary", required=True, help="the `onstage` to test")
    parser.addoption("--mlflow-python", required=True, help="a Python that has MLflow")
    parser.addoption("--tools", required=True, help="where tests/packaging/tools.sh put the tools")


@pytest.fixture(scope="session")
def binary(request):
    path = Path(request.config.getoption("--binary")).resolve()
    assert path.is_file(), f"{path} is not there: build it first"
    return path


@pytest.fixture(scope="session")
def tools(request):
    path = Path(request.config.getoption("--tools")).resolve()
    assert (path / "helm4/helm/helm").is_file(), f"{path} has no tools: use `make test-packaging`"
    return path


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """Keeps the tests of such a file in one process, and puts them before all others."""
    for item in items:
        if item.path.name in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    yield
    items.sort(key=lambda item: TOGETHER.index(item.path.name) if item.path.name in TOGETHER else len(TOGETHER))


# pytest sets up a fixture with parameters anew whenever the parameter changes; what this Helm has rendered is still known then.
@functools.cache
def helm_of(major, tools, home):
    # Each run is short and its memory small: collecting garbage would be a fifth of the work.
    environment = {**os.environ, "HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home, "HELM_DATA_HOME": home, "KUBECONFIG": home / "none", "GOGC": "400"}
    program = tools / major / "helm/helm"

    # Many tests look at the same objects.
    @functools.cache
    def helm(*arguments, **options):
        return run(program, *arguments, env=environment, **options)

    return helm


@pytest.fixture(scope="session", params=["helm3", "helm4"])
def helm(request, tools, tmp_path_factory):
    """Helm, of each major: `helm("lint", …)`."""
    return helm_of(request.param, tools, tmp_path_factory.getbasetemp() / request.param)


@pytest.fixture(scope="session")
def context(binary, tmp_path_factory):
    """What `docker build` gets: the Dockerfile, and the binary without symbols in the place of one that is compiled."""
    directory = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", "LICENSE"):
        shutil.copy(ROOT / name, directory)
    for name in ("docker", "model-examples/iris"):
        shutil.copytree(ROOT / name, directory / name)
    (directory / "dist").mkdir()
    run("strip", "-o", directory / "dist/onstage", binary)
    return directory


class Docker:
    """A Docker Engine of its own."""

    def __init__(self, program, socket):
        self.program = program
        self.socket = socket

    def __call__(self, *arguments, **options):
        environment = {**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(self.socket.parent)}
        return run(self.program, "-H", f"unix://{self.socket}", *arguments, env=environment, **options)

    def inspect(self, name):
        return json.loads(self("inspect", name))[0]


@pytest.fixture(scope="session")
def docker(tools):
    # The path of a socket must be short.
    state = Path(tempfile.mkdtemp(prefix="dockerd"))
    programs = tools / "debian"
    path = f"{programs}/usr/sbin:{programs}/usr/bin:{os.environ['PATH']}:/usr/sbin"
    socket = state / "s"
    arguments = ["--data-root", state / "data", "--exec-root", state / "exec", "-p", state / "pid", "-H", f"unix://{socket}"]
    # No network of its own: containers share that of the machine.
    arguments += ["--iptables=false", "--ip6tables=false", "--bridge=none", "--default-ulimit", "nofile=20000:20000"]
    engine = Docker(programs / "usr/bin/docker", socket)
    with process(programs / "usr/sbin/dockerd", *arguments, log=state / "log", env={**os.environ, "PATH": path}) as started:

        def answers():
            assert started.poll() is None, (state / "log").read_text()
            return socket.exists() and "Server Version" in engine("info")

        until(answers, "Docker Engine answers")
        yield engine
        for container in engine("ps", "-aq").split():
            engine("rm", "-f", container)
    # The engine leaves its mounts.
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{state}/"):
            run("umount", line.split()[1])
    shutil.rmtree(state)


@pytest.fixture(scope="session")
def images(docker, tools, context):
    """Both images, on bases that were made here: names by target."""
    for base in ("runtime", "python"):
        docker("import", tools / f"bases/{base}.tar", f"base/{base}:local")
    names = {}
    for target in ("embedded", "full"):
        names[target] = f"onstage:{target}"
        bases = ["RUNTIME_IMAGE=base/runtime:local", "PYTHON_IMAGE=base/python:local", "BINARY=prebuilt"]
        arguments = [part for base in bases for part in ("--build-arg", base)]
        docker("build", "--network", "host", *arguments, "--target", target, "-t", names[target], context)
    return names
