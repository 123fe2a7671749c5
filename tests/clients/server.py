"""Starts `onstage serve` on free ports, finds out which, and ends what it started."""

import re
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 120
STOP_SECONDS = 60


class Server:
    """A process that serves; `http` and `grpc` are `host:port`, `admin` is a URL or None."""

    def __init__(self, binary, arguments, environment=None):
        self.command = [str(binary), "serve", *map(str, arguments), "--port", "0", "--grpc-port", "0"]
        self.environment = environment
        self.lines = []
        self.token = None

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            self.http = self._address(r"HTTP +http://(\S+)")
            self.grpc = self._address(r"gRPC +(\S+)")
        except BaseException:
            self._end()
            raise
        admin = re.search(r"admin +(http://\S+)", self.output)
        self.admin = admin and admin[1]
        return self

    def __exit__(self, *_):
        self._end()

    @property
    def output(self):
        """What the process has written so far."""
        return "".join(self.lines)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def _address(self, pattern):
        deadline = time.monotonic() + START_SECONDS
        # The block is printed as a whole; a line with the metrics is its last address.
        while time.monotonic() < deadline:
            found = re.search(pattern, self.output)
            if found and re.search(r"metrics +http://\S+\n", self.output):
                return found[1]
            if self.process.poll() is not None:
                self.reader.join()
                break
            time.sleep(0.02)
        raise AssertionError(f"the server did not start:\n{self.output}")

    def _end(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
