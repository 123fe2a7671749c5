"""Trains gradient-boosted trees (LightGBM) on the wine data, writes them as an MLflow package and logs them.

A column signature: a request is a table with named columns, and each row is answered with its label and one map of
probabilities (ZipMap). The same versions of the libraries give the same bytes of `model.onnx`.
"""

import argparse
import sys
from pathlib import Path

import lightgbm
import mlflow
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convert import convert  # noqa: E402


def train(trees):
    """Fits the trees; returns them with wines that they have not seen and the accuracy on those."""
    wine = load_wine(as_frame=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        wine.data, wine.target_names[wine.target], test_size=0.25, random_state=0, stratify=wine.target
    )
    model = lightgbm.LGBMClassifier(
        n_estimators=trees, num_leaves=7, random_state=0, n_jobs=1, deterministic=True, force_row_wise=True, verbose=-1
    ).fit(seen, seen_labels)
    return model, unseen, model.score(unseen, unseen_labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("package"))
    parser.add_argument("--trees", type=int, default=30)
    arguments = parser.parse_args()

    model, unseen, accuracy = train(arguments.trees)
    converted = convert(model, unseen, name="wine", columns=True, zipmap=True)
    # `mlflow run` has already made a run: this joins it.
    with mlflow.start_run():
        mlflow.log_param("trees", arguments.trees)
        mlflow.log_metric("accuracy", accuracy)
        mlflow.set_tag("model.onnx.sha256", converted.save(arguments.output))
        mlflow.onnx.log_model(name="wine", **converted.package)
    print(f"accuracy on unseen wines: {accuracy:.3f}")


if __name__ == "__main__":
    main()
