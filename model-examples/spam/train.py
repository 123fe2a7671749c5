"""Trains a spam filter on the short messages beside this file, writes it as an MLflow package and logs it.

The graph takes the texts themselves: lower case, words, pairs of words, TF-IDF and a logistic regression. The same versions
of the libraries give the same bytes of `model.onnx`.
"""

import argparse
import sys
from pathlib import Path

import mlflow
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from convert import convert  # noqa: E402

MESSAGES = Path(__file__).resolve().parent / "messages.csv"
UNSEEN = [
    "Claim your free prize, reply now",
    "Are we still on for dinner tonight?",
    "Your invoice for the garage is attached",
]


def train(regularisation):
    """Fits the pipeline on all messages; returns it with its accuracy in a cross-validation."""
    messages = pd.read_csv(MESSAGES)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=False), LogisticRegression(C=regularisation, max_iter=1000)
    )
    accuracy = cross_val_score(model, messages["text"], messages["label"], cv=5).mean()
    return model.fit(messages["text"], messages["label"]), accuracy


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("package"))
    parser.add_argument("--regularisation", type=float, default=10.0)
    arguments = parser.parse_args()

    model, accuracy = train(arguments.regularisation)
    converted = convert(model, pd.DataFrame({"text": UNSEEN}), name="spam")
    # `mlflow run` has already made a run: this joins it.
    with mlflow.start_run():
        mlflow.log_param("regularisation", arguments.regularisation)
        mlflow.log_metric("accuracy", accuracy)
        mlflow.set_tag("model.onnx.sha256", converted.save(arguments.output))
        mlflow.onnx.log_model(name="spam", **converted.package)
    print(f"accuracy in a 5-fold cross-validation: {accuracy:.3f}")


if __name__ == "__main__":
    main()
