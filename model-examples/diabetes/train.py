"""Trains gradient-boosted trees (XGBoost) on the diabetes data, writes them as an MLflow package and logs them.

A column signature: a request is a table with named columns. The same versions of the libraries give the same bytes of
`model.onnx`.
"""

import argparse
import sys
from pathlib import Path

import mlflow
import xgboost
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convert import convert  # noqa: E402


def train(trees):
    """Fits the trees; returns them with patients that they have not seen and the mean error on those."""
    patients, progression = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    seen, unseen, seen_progression, unseen_progression = train_test_split(
        patients, progression, test_size=0.2, random_state=0
    )
    model = xgboost.XGBRegressor(n_estimators=trees, max_depth=3, learning_rate=0.1, n_jobs=1, random_state=0)
    model.fit(seen, seen_progression)
    return model, unseen, mean_absolute_error(unseen_progression, model.predict(unseen))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("package"))
    parser.add_argument("--trees", type=int, default=60)
    arguments = parser.parse_args()

    model, unseen, error = train(arguments.trees)
    converted = convert(model, unseen, name="diabetes", columns=True)
    # `mlflow run` has already made a run: this joins it.
    with mlflow.start_run():
        mlflow.log_param("trees", arguments.trees)
        mlflow.log_metric("mean_absolute_error", error)
        mlflow.set_tag("model.onnx.sha256", converted.save(arguments.output))
        mlflow.onnx.log_model(name="diabetes", **converted.package)
    print(f"mean absolute error on unseen patients: {error:.1f}")


if __name__ == "__main__":
    main()
