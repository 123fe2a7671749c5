"""KServe's own client over gRPC."""

import subprocess
import sys
from pathlib import Path


def test_its_calls_are_answered(server):
    script = Path(__file__).with_name("kserve_calls.py")
    ran = subprocess.run([sys.executable, script, server.grpc], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("all calls were answered\n")
