"""`onstage-convert`: from the model that people have to the package that is served."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from pathlib import Path

from onstage.errors import OnstageError

DESCRIPTION = """Convert a trained model to an ONNX package that answers as the model does, and prove it.

SOURCE is a URI of MLflow (models:/fraud/3, models:/fraud@champion, runs:/RUN/model), the directory of an MLflow package
(scikit-learn, LightGBM, XGBoost, CatBoost or PyTorch), or a model file (.joblib, .pkl, .json, .ubj, .txt, .cbm, .pt).
Loading a pickle runs the code in it: name only sources that you trust."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="onstage-convert", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("source", metavar="SOURCE", help="the model to convert")
    target = found.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--output", metavar="DIR", type=Path, help="write the package to a directory")
    target.add_argument("--register", metavar="NAME", help="register it as a new version; aliases stay where they are")
    found.add_argument("--data", metavar="FILE", type=Path, help="rows to compare on: .parquet, .csv or .npy")
    found.add_argument("--json", action="store_true", help="print the report and the URI as JSON")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; gives the exit code: 0 fine, 1 failed, 2 a mistake in the command line."""
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    # MLflow counts its uses over the network; that is for the user to start, not for a converter.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    try:
        from onstage._convert import make, parity
        from onstage._convert.package import register_version, save

        converted = make(given.source, given.data)
        uri = register_version(converted, given.register) if given.register else save(converted, given.output)
    except OnstageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps({"uri": uri, "parity": converted.report}, indent=2))
        return 0
    print(f"parity on {converted.report['rows']} rows: {parity.summary(converted.report)}")
    for note in converted.layout.notes:
        print(f"note: {note}")
    print(f"wrote {uri}")
    print(f"serve it: onstage serve {shlex.quote(uri)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
