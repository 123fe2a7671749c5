"""Holds the example packages against MLflow itself.

For each package in `model-examples/`: MLflow's own scoring server must answer every `request*.json` as `expected.json`
says, and a package trained anew by `mlflow run` must do the same.

    python tests/examples.py             check
    python tests/examples.py --record    write `expected.json` from what MLflow answers
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "model-examples"
START_TIMEOUT = 120.0
TOLERANCE = 1e-5


def mlflow(*arguments, cwd):
    """The command line of MLflow, with the `python` of this environment first and its state below `cwd`."""
    environment = dict(
        os.environ,
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        MLFLOW_TRACKING_URI=f"sqlite:///{cwd}/mlflow.db",
        MLFLOW_DISABLE_TELEMETRY="true",
    )
    command = [sys.executable, "-m", "mlflow", *arguments]
    return {"args": command, "cwd": cwd, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


@contextlib.contextmanager
def serving(package, work):
    """MLflow's scoring server for `package`; gives its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = open(work / "server.log", "w+b")
    call = mlflow("models", "serve", "-m", str(package), "-p", str(port), "--env-manager", "local", cwd=work)
    # Its own session: `mlflow models serve` starts the server as a child, and both must end.
    process = subprocess.Popen(**{**call, "stdout": log}, start_new_session=True)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_until_ready(base, process, log)
        yield base
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(20)
        log.close()


def wait_until_ready(base, process, log):
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/ping", timeout=5):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            sys.exit("MLflow's server did not start:\n" + log.read().decode(errors="replace")[-3000:])
        time.sleep(0.1)


def answers(package, requests):
    """What MLflow answers to each file of `requests`."""
    with tempfile.TemporaryDirectory() as work, serving(package, Path(work)) as base:
        found = {}
        for path in requests:
            call = urllib.request.Request(
                f"{base}/invocations", path.read_bytes(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(call, timeout=60) as response:
                found[path.name] = json.load(response)
        return found


def same(want, got):
    """Whether two JSON values agree; floating-point numbers within the tolerance."""
    if isinstance(want, dict) and isinstance(got, dict):
        return want.keys() == got.keys() and all(same(want[key], got[key]) for key in want)
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(map(same, want, got))
    if isinstance(want, float) and isinstance(got, float):
        return math.isclose(want, got, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(want) is type(got) and want == got


def retrain(example, output):
    """Trains the package anew, as a user would."""
    with tempfile.TemporaryDirectory() as work:
        run = mlflow("run", str(example), "--env-manager", "local", "-P", f"output={output}", cwd=Path(work))
        done = subprocess.run(**run, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{example.name}: `mlflow run` failed:\n{done.stdout[-3000:]}")


def digest(package):
    return hashlib.sha256((package / "model.onnx").read_bytes()).hexdigest()


def check(example):
    """The disagreements of one example, as sentences."""
    requests = sorted(example.glob("request*.json"))
    expected = json.loads((example / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as fresh:
        retrain(example, Path(fresh) / "package")
        packages = {"as committed": example, "trained anew": Path(fresh) / "package"}
        if digest(example) != digest(packages["trained anew"]):
            print(f"{example.name}: note: trained anew, model.onnx has other bytes (another processor?)")
        for what, package in packages.items():
            for name, got in answers(package, requests).items():
                if not same(expected, got):
                    yield f"{example.name}, {what}, {name}: expected {json.dumps(expected)}, got {json.dumps(got)}"


def record(example):
    found = list(answers(example, sorted(example.glob("request*.json"))).values())
    if not all(same(found[0], other) for other in found):
        sys.exit(f"{example.name}: the requests get different answers: {json.dumps(found)}")
    (example / "expected.json").write_text(json.dumps(found[0]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    examples = sorted(path.parent for path in EXAMPLES.glob("*/MLproject"))
    if arguments.record:
        for example in examples:
            record(example)
        return
    failures = [failure for example in examples for failure in check(example)]
    print("\n".join(failures) or f"examples: {len(examples)} passed, 0 failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
