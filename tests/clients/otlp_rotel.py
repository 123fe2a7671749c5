"""Rotel, a real collector of OpenTelemetry, gets the spans of requests, over gRPC and over HTTP."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import rotel
import tritonclient.grpc as triton
from server import ROOT, Server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SECONDS = 30


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Collector:
    """Rotel, which writes down each span that it gets."""

    def __init__(self, directory):
        self.grpc, self.http = free_port(), free_port()
        self.log = directory / "rotel.txt"
        agent = Path(rotel.__file__).parent / "rotel-agent"
        self.command = [agent, "start", "--exporter", "blackhole", "--pid-file", directory / "rotel.pid"]
        self.command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        self.command += ["--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc}", "--otlp-http-endpoint", f"127.0.0.1:{self.http}"]

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, cwd=self.log.parent)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(SECONDS)

    @property
    def text(self):
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())

    def wait_for(self, *words):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if all(word in self.text for word in words):
                return
            time.sleep(0.1)
        raise AssertionError(f"the collector never got {words}:\n{self.text}")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_spans_of_a_request_arrive_in_the_trace_of_its_client(binary, protocol, tmp_path):
    with Collector(tmp_path) as collector:
        endpoint = f"http://127.0.0.1:{collector.grpc if protocol == 'grpc' else collector.http}"
        variable = "grpc" if protocol == "grpc" else "http/protobuf"
        environment = os.environ | {"OTEL_EXPORTER_OTLP_PROTOCOL": variable, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        arguments = [ROOT / "model-examples/iris", "--otlp-endpoint", endpoint]
        with Server(binary, arguments, environment) as server:
            body = json.loads((ROOT / "model-examples/iris/serving_input_example.json").read_text())
            request = urllib.request.Request(
                f"http://{server.http}/invocations",
                json.dumps(body).encode(),
                {"content-type": "application/json", "traceparent": TRACEPARENT},
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
            client = triton.InferenceServerClient(server.grpc)
            metadata = client.get_model_metadata("iris", headers={"traceparent": TRACEPARENT})
            assert metadata.name == "iris"
            collector.wait_for(
                TRACE,
                PARENT,
                "POST /invocations",
                "batch",
                "infer",
                "inference.GRPCInferenceService/ModelMetadata",
                "onstage.model.name",
                "swap",
                "compile",
            )


