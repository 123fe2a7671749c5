"""Holds the example packages against MLflow itself.

For each package in `model-examples/`: MLflow's own scoring server must answer every `request*.json` as `expected.json`
says, and a package made anew by `mlflow run` must do the same. A package that is too large to be committed is made in
`model-examples/NAME/package`, where the tests of onstage find it. The commands are those of `model-examples/*/README.md`.

    python tests/examples.py             check
    python tests/examples.py --record    write `expected.json` from what MLflow answers
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import uvicorn
from mlflow.pyfunc import scoring_server

EXAMPLES = Path(__file__).resolve().parent.parent / "model-examples"
START_TIMEOUT = 60.0
TOLERANCE = 1e-5

# Of models that were trained anew: another processor adds in another order, and training stops a little elsewhere.
RETRAINED = 1e-3
# `mlflow run` is mostly one thread.
RUNS_AT_ONCE = 2


@contextlib.contextmanager
def serving(package):
    """MLflow's scoring server for `package`, as `mlflow models serve` runs it; gives its base URL."""
    app = scoring_server.init(scoring_server.load_model_with_mlflow_config(str(package)))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                sys.exit(f"MLflow's server did not start for {package}")
            time.sleep(0.01)
        yield "http://127.0.0.1:{}".format(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT)


def answers(package, requests):
    """What MLflow answers to each file of `requests`."""
    found = {}
    with serving(package) as base:
        for path in requests:
            call = urllib.request.Request(
                f"{base}/invocations", path.read_bytes(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(call, timeout=60) as response:
                found[path.name] = json.load(response)
    return found


def same(want, got, tolerance=TOLERANCE):
    """Whether two JSON values agree; floating-point numbers within the tolerance."""
    if isinstance(want, dict) and isinstance(got, dict):
        return want.keys() == got.keys() and all(same(want[key], got[key], tolerance) for key in want)
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(same(*pair, tolerance) for pair in zip(want, got))
    if isinstance(want, float) and isinstance(got, float):
        return math.isclose(want, got, rel_tol=tolerance, abs_tol=tolerance)
    return type(want) is type(got) and want == got


def make(example, output, work):
    """Makes the package anew, as a user would."""
    # The `python` of this environment first.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = dict(os.environ, PATH=path, MLFLOW_TRACKING_URI=tracking(work))
    command = [sys.executable, "-m", "mlflow", "run", example, "--env-manager", "local", "-P", f"output={output}"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{example.name}: `mlflow run` failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def tracking(work):
    return f"sqlite:///{work}/mlflow.db"


def committed(example):
    return (example / "MLmodel").exists()


def digest(package):
    return hashlib.sha256((package / "model.onnx").read_bytes()).hexdigest()


def check(example, fresh):
    """The disagreements of one example, as sentences."""
    requests = sorted(example.glob("request*.json"))
    expected = json.loads((example / "expected.json").read_text())
    packages = {"made anew": (fresh, RETRAINED)}
    if committed(example):
        packages["as committed"] = (example, TOLERANCE)
        if digest(example) != digest(fresh):
            print(f"{example.name}: note: made anew, model.onnx has other bytes (another processor?)")
    for what, (package, tolerance) in packages.items():
        for name, got in answers(package, requests).items():
            if not same(expected, got, tolerance):
                yield f"{example.name}, {what}, {name}: expected {json.dumps(expected)}, got {json.dumps(got)}"


def check_all(examples):
    """Makes all packages anew and gives their disagreements; those that are not committed stay."""
    with tempfile.TemporaryDirectory() as work:
        # The tables of the database are made once, not by runs that race for it.
        mlflow.MlflowClient(tracking(work)).search_experiments()
        packages = {example: Path(work) / example.name for example in examples}
        with concurrent.futures.ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
            list(pool.map(lambda example: make(example, packages[example], work), examples))
        for example, package in packages.items():
            yield from check(example, package)
            if not committed(example):
                shutil.rmtree(example / "package", ignore_errors=True)
                shutil.copytree(package, example / "package")


def record(example):
    package = example if committed(example) else example / "package"
    found = list(answers(package, sorted(example.glob("request*.json"))).values())
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
    failures = list(check_all(examples))
    print("\n".join(failures) or f"examples: {len(examples)} passed, 0 failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
