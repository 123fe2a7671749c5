"""Holds the packages that `onstage package` makes against MLflow.

Each graph becomes a package with an input example. MLflow must load it, and answer its example as onstage did.

    python tests/packages.py --binary target/debug/onstage
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RECORDED = "tests/conformance/mlflow/models"
TOLERANCE = 1e-5

# Graph, and an example: the data alone or a whole request.
CASES = [
    ("model-examples/iris/model.onnx", [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]),
    ("tests/models/twice_float32.onnx", {"dataframe_split": {"columns": ["a", "b"], "data": [[5.1, 3.5]]}}),
    (f"{RECORDED}/two_tower/model.onnx", {"user": [[1, 2, 3, 4]], "item": [[4, 3, 2, 1]]}),
    (f"{RECORDED}/mlp10/model.onnx", {"inputs": [[0.5] * 10, [-0.25] * 10]}),
    (f"{RECORDED}/cnn28/model.onnx", [[[[0.5] * 28] * 28]]),
    ("tests/models/twice_str.onnx", [["a", "ä"]]),
    ("tests/models/twice_int64.onnx", [[1, -2]]),
    ("tests/models/twice_bool.onnx", [[True, False]]),
]


def make(binary, graph, example, work):
    """The package and what onstage answered to its example."""
    (work / "example.json").write_text(json.dumps(example))
    command = [binary, "package", graph, "-o", work / "made", "--input-example", work / "example.json"]
    command += ["--name", "näme", "--metadata", "owner=it's: us", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{graph}: `onstage package` failed:\n{done.stderr}")
    return work / "made", json.loads(done.stdout)["example"]["answer"]["predictions"]


def answered(package):
    """What MLflow answers to the example of the package."""
    import mlflow
    import mlflow.pyfunc.scoring_server as server

    model = mlflow.pyfunc.load_model(str(package))
    assert model.metadata.signature is not None, "no signature"
    assert model.metadata.metadata == {"owner": "it's: us"}, model.metadata.metadata
    body = model.metadata.get_serving_input(str(package))
    # The scoring server's own way from a body to an answer.
    response = server.invocations(body, "application/json", model, model.metadata.get_input_schema())
    if response.status != 200:
        raise AssertionError(response.response)
    return json.loads(response.response)["predictions"]


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and one and isinstance(one[0], dict):
        return len(one) == len(other) and all(map(same, one, other))
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind == "f":
        return np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
    return (one == other).all()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, type=Path)
    binary = parser.parse_args().binary.resolve()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    failures = []
    for graph, example in CASES:
        with tempfile.TemporaryDirectory() as work:
            package, ours = make(binary, graph, example, Path(work))
            try:
                theirs = answered(package)
            except Exception as error:  # whatever MLflow raises is a failure of the package
                failures.append(f"{graph}: MLflow: {error}")
                continue
            if not same(ours, theirs):
                failures.append(f"{graph}: onstage answered {json.dumps(ours)}, MLflow {json.dumps(theirs)}")
    print("\n".join(failures) or f"packages: {len(CASES)} passed, 0 failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
