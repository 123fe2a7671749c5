"""Connections that have had their time, as real clients feel it: nothing fails, and another connection is opened."""

import socket
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from server import Server

IRIS = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
AGE = 0.5
THREADS = 4


@pytest.fixture(scope="module")
def aged(binary, models):
    with Server(binary, [models / "iris", "--engine", "tract", "--max-connection-age", f"{int(AGE * 1000)}ms"]) as running:
        yield running


class Counter:
    """Passes connections on, and counts them."""

    def __init__(self, address):
        self.host, self.port = address.split(":")
        self.count = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            self.count += 1
            server = socket.create_connection((self.host, self.port))
            for pair in [(client, server), (server, client)]:
                threading.Thread(target=self.copy, args=pair, daemon=True).start()

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.mark.parametrize("client, address", [(triton_http, "http"), (triton_grpc, "grpc")], ids=["http", "grpc"])
def test_no_request_fails_while_connections_are_renewed(aged, client, address):
    through = Counter(getattr(aged, address))
    end = time.monotonic() + 6 * AGE
    answered, failed = [], []

    def ask():
        features = client.InferInput("features", [1, 4], "FP32")
        features.set_data_from_numpy(IRIS)
        with client.InferenceServerClient(through.address) as asking:
            while time.monotonic() < end:
                try:
                    answered.append(asking.infer("iris", [features]).as_numpy("label")[0])
                except Exception as error:
                    failed.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[:3]
    assert len(answered) > 100
    # Channels of gRPC to one address share their connection.
    assert through.count > (3 if client is triton_grpc else 3 * THREADS)
