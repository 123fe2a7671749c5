"""schemathesis sends what the description of all paths allows, and what it does not, and finds nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

from server import ROOT, Server

SECONDS = 300
CONFIGURATION = ROOT / "tests/clients/schemathesis.toml"
HOOKS = ROOT / "tests/clients/schema_hooks.py"


def test_every_answer_is_one_that_the_description_tells(binary, tmp_path):
    models = [ROOT / "model-examples/iris", ROOT / "model-examples/penguins"]
    arguments = [*models, "--default-model", "iris", "--engine", "onnxruntime"]
    with Server(binary, arguments) as server:
        program = Path(sys.executable).with_name("schemathesis")
        command = [program, "--config-file", CONFIGURATION, "run", f"http://{server.http}/openapi.json"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"SCHEMA_HOOKS": str(HOOKS)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
    # The end of it has the findings, each with a `curl` that repeats it.
    assert done.returncode == 0, done.stdout[-30_000:]
    assert "panicked" not in server.output
    sent = re.search(r"(\d+) generated", done.stdout)
    assert sent and int(sent[1]) > 1000, done.stdout
