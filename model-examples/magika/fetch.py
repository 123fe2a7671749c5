"""Takes the net of Magika, which tells 214 types of files apart, out of its Python package, and makes an MLflow package of it.

The graph is as Google published it; only the signature, the labels and an example are new.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convert_package import Converted, requirements  # noqa: E402

RELEASE = "magika==1.0.3"
FILES = "magika/models/standard_v3_3"
SHA256 = "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"

# Both ends of a file, and what stands for bytes that a short file does not have.
ENDS = 1024
PADDING = 256

SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.int32), (-1, 2 * ENDS), "bytes")]),
    outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 214), "target_label")]),
)

EXAMPLES = [
    b"use std::collections::HashMap;\n\nfn main() {\n    let mut seen: HashMap<&str, usize> = HashMap::new();\n"
    b"    for word in \"to be or not to be\".split(' ') {\n        *seen.entry(word).or_default() += 1;\n    }\n"
    b'    println!("{seen:?}");\n}\n',
    b"SELECT customer.name, SUM(line.price * line.amount) AS total\nFROM customer\nJOIN line ON line.customer = customer.id\n"
    b"WHERE line.ordered >= '2026-01-01'\nGROUP BY customer.name\nORDER BY total DESC\nLIMIT 10;\n",
]


def download():
    """The net and its configuration, from the package's wheel for Linux: the net in it is the same on every system."""
    with tempfile.TemporaryDirectory() as work:
        wanted = ["--no-deps", "--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--dest", work, RELEASE]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *wanted], check=True
        )
        with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as wheel:
            net, settings = wheel.read(f"{FILES}/model.onnx"), json.loads(wheel.read(f"{FILES}/config.min.json"))
    found = hashlib.sha256(net).hexdigest()
    if found != SHA256:
        sys.exit(f"the net of {RELEASE} has the SHA-256 {found}, expected {SHA256}")
    return net, settings["target_labels_space"]


def features(content):
    """The first and last bytes of a file without the white space around it, as Magika takes them."""
    content = content.strip()
    first, last = list(content[:ENDS]), list(content[-ENDS:])
    return first + [PADDING] * (ENDS - len(first)) + [PADDING] * (ENDS - len(last)) + last


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("package"))
    arguments = parser.parse_args()

    net, labels = download()
    example = {"bytes": np.array([features(content) for content in EXAMPLES], dtype=np.int32)}
    package = {
        "onnx_model": onnx.load_model_from_string(net),
        "signature": SIGNATURE,
        "input_example": example,
        "metadata": {"labels": labels},
        "pip_requirements": requirements(),
        "onnx_execution_providers": ["CPUExecutionProvider"],
        "save_as_external_data": False,
    }
    converted = Converted(package, {"inputs": {"bytes": example["bytes"].tolist()}})
    # `mlflow run` has already made a run: this joins it.
    with mlflow.start_run():
        mlflow.log_param("release", RELEASE)
        mlflow.set_tag("model.onnx.sha256", converted.save(arguments.output))
        mlflow.onnx.log_model(name="magika", **package)
    scores = json.loads((arguments.output / "expected.json").read_text())["predictions"]["target_label"]
    print(f"the examples are: {', '.join(labels[int(np.argmax(row))] for row in scores)}")


if __name__ == "__main__":
    main()
