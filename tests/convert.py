"""Trains fresh models, converts them with `model-examples/convert.py` and holds `onstage serve` against the originals.

python tests/convert.py --binary target/debug/onstage
"""

import argparse
import contextlib
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "model-examples" / "convert.py"
sys.path.insert(0, str(SCRIPT.parent))

from convert import convert
from convert_load import ConversionError, load_data, load_model  # noqa: E402

BINARY = ROOT / "target" / "debug" / "onstage"


def pricing():
    """Made-up cars: texts and numbers, some of them missing."""
    random = np.random.default_rng(7)
    cars = pd.DataFrame(
        {
            "maker": random.choice(["Ada", "Bolt", "Çelik"], 200),
            "fuel": random.choice(["petrol", "diesel", "none"], 200),
            "age": random.integers(0, 20, 200).astype(float),
            "km": random.normal(80_000, 30_000, 200).round(),
        }
    )
    cars.loc[::9, "age"] = np.nan
    sold = np.where((cars["age"].fillna(5) < 8) ^ (cars["maker"] == "Bolt"), "yes", "no")
    return cars, sold


def texts_and_numbers(work):
    cars, sold = pricing()
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "km"]),
                ("texts", OneHotEncoder(handle_unknown="ignore"), ["maker", "fuel"]),
            ]
        ),
        LogisticRegression(max_iter=1000),
    ).fit(cars, sold)
    joblib.dump(model, work / "model.joblib")
    return (
        work / "model.joblib",
        cars.assign(sold=sold),
        cars,
        [],
        tensors(model.predict(cars), model.predict_proba(cars)),
    )


def forest(work):
    rows, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    model = RandomForestClassifier(20, random_state=0).fit(rows, labels)
    (work / "model.pkl").write_bytes(pickle.dumps(model))
    return work / "model.pkl", rows, rows, ["--columns"], maps(model.predict(rows), model.predict_proba(rows))


def xgboost_file(work):
    rows, labels = load_wine(return_X_y=True, as_frame=True)
    model = xgboost.XGBClassifier(n_estimators=15, random_state=0).fit(rows, labels)
    model.save_model(work / "model.json")
    return work / "model.json", rows, rows, [], tensors(model.predict(rows), model.predict_proba(rows))


def lightgbm_file(work):
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    rows.iloc[::7, 2] = np.nan
    model = lightgbm.train({"objective": "binary", "verbose": -1, "seed": 0}, lightgbm.Dataset(rows, labels == 1), 20)
    model.save_model(work / "model.txt")
    chance = model.predict(rows)
    labels, maps = zipped((chance > 0.5).astype(int), np.stack([1 - chance, chance], 1)).values()
    return work / "model.txt", rows, rows, ["--zipmap"], {"label": labels, "probabilities": maps}


def histogram_boosting(work):
    rows, target = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    rows.iloc[::5, 3] = np.nan
    model = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(rows, target)
    joblib.dump(model, work / "model.joblib")
    return work / "model.joblib", rows, rows, ["--columns"], [{"variable": value} for value in model.predict(rows)]


def network_in_float64(work):
    rows, labels = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), MLPClassifier([8], max_iter=400, random_state=0)).fit(rows, labels)
    joblib.dump(model, work / "model.joblib")
    frame = pd.DataFrame(rows, columns=list("abcd"))
    return work / "model.joblib", frame, frame, ["--float64"], tensors(model.predict(rows), model.predict_proba(rows))


def texts(work):
    found = [
        "Win a FREE prize now",
        "see you at lunch",
        "un café à neuf heures",
        "free PRIZE for you",
        "ÉTÉ at the café",
    ]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(found, [1, 0, 0, 1, 0])
    joblib.dump(model, work / "model.joblib")
    frame = pd.DataFrame({"message": found})
    return work / "model.joblib", frame, frame, [], tensors(model.predict(found), model.predict_proba(found))


def tensors(labels, probabilities):
    return {"label": labels.tolist(), "probabilities": probabilities.tolist()}


def zipped(labels, probabilities):
    """As `--zipmap` answers under a tensor signature."""
    maps = [{str(key): value for key, value in enumerate(row)} for row in probabilities.tolist()]
    return {"output_label": labels.tolist(), "output_probability": maps}


def maps(labels, probabilities):
    """As `--columns` answers: one object per row."""
    columns = zipped(labels, probabilities)
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def close(want, got):
    if isinstance(want, dict):
        return isinstance(got, dict) and want.keys() == got.keys() and all(close(want[key], got[key]) for key in want)
    if isinstance(want, list):
        return isinstance(got, list) and len(want) == len(got) and all(map(close, want, got))
    if isinstance(want, float):
        return isinstance(got, float) and abs(want - got) <= 1e-4 * max(1.0, abs(want))
    return type(want) is type(got) and want == got


@contextlib.contextmanager
def serving(package):
    """`onstage serve` on a free port; gives its base URL."""
    command = [BINARY, "serve", package, "--port", "0", "--grpc-port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            else:
                log.seek(0)
                raise AssertionError(f"onstage did not serve {package}:\n{log.read()}")
            yield found.group()
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()


def post(url, body):
    call = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=60) as response:
        return json.load(response)


def has_verify():
    """Whether this binary knows `onstage verify`."""
    return subprocess.run([BINARY, "verify", "--help"], capture_output=True, check=False).returncode == 0


class FreshModels(unittest.TestCase):
    """Each model, trained now and converted by the command line, is served as its library predicts."""

    def check(self, train):
        with tempfile.TemporaryDirectory() as work:
            work = Path(work)
            model, sample, rows, arguments, expected = train(work)
            sample.to_csv(work / "sample.csv", index=False)
            package = work / "package"
            command = [sys.executable, SCRIPT, model, "--data", work / "sample.csv", "--output", package, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("parity on", done.stdout)
            self.assert_served(package, rows, expected)
            if has_verify():
                done = subprocess.run([BINARY, "verify", package], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def assert_served(self, package, rows, expected):
        data = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
        inputs = [row[0] for row in data] if rows.shape[1] == 1 else data
        table = {"dataframe_split": {"columns": list(rows), "data": data}}
        with serving(package) as base:
            body = {"inputs": inputs} if rows.shape[1] == 1 else table
            got = post(f"{base}/invocations", body)["predictions"]
            recorded = post(f"{base}/invocations", json.loads((package / "request.json").read_text()))
        if isinstance(expected, list):
            # The names of a regression's outputs are the converter's.
            got = [dict(zip(want, row.values())) for want, row in zip(expected, got, strict=True)]
        self.assertTrue(close(expected, got), f"{str(expected)[:500]}\n{str(got)[:500]}")
        self.assertTrue(close(json.loads((package / "expected.json").read_text()), recorded), recorded)

    def test_scikit_learn_pipeline_of_texts_and_numbers(self):
        self.check(texts_and_numbers)

    def test_scikit_learn_forest_under_columns(self):
        self.check(forest)

    def test_xgboost_model_file(self):
        self.check(xgboost_file)

    def test_lightgbm_model_file_with_missing_values(self):
        self.check(lightgbm_file)

    def test_histogram_boosting_with_missing_values_under_columns(self):
        self.check(histogram_boosting)

    def test_network_in_float64(self):
        self.check(network_in_float64)

    def test_text_model_of_words_with_accents(self):
        self.check(texts)


class Refusals(unittest.TestCase):
    """What cannot be converted ends with a reason and a hint."""

    def refuses(self, message, model, data, **options):
        with self.assertRaisesRegex(ConversionError, message) as caught:
            convert(model, data, **options)
        return str(caught.exception.hint)

    def test_command_line_ends_with_1_and_a_hint(self):
        with tempfile.TemporaryDirectory() as work:
            work = Path(work)
            (work / "model.pkl").write_bytes(pickle.dumps({"model": 1}))
            (work / "sample.csv").write_text("a,b\n1,2\n")
            command = [
                sys.executable,
                SCRIPT,
                work / "model.pkl",
                "--data",
                work / "sample.csv",
                "--output",
                work / "out",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(
                done.stderr, "error: the model is a `builtins.dict`\n\nhint: expected a model of scikit-learn"
            )
            self.assertFalse((work / "out").exists())

    def test_package_that_is_not_installed(self):
        with tempfile.TemporaryDirectory() as work:
            path = Path(work) / "model.pkl"
            path.write_bytes(b"cnot_installed_here\nModel\n.")
            with self.assertRaisesRegex(ConversionError, "needs the Python package `not_installed_here`"):
                load_model(path)

    def test_files_that_are_no_models(self):
        with tempfile.TemporaryDirectory() as work:
            for name, message in [
                ("model.h5", "suffix `.h5`"),
                ("model.json", "cannot be read"),
                ("model.pkl", "cannot be read"),
            ]:
                path = Path(work) / name
                path.write_text("{}")
                with self.subTest(name), self.assertRaisesRegex(ConversionError, message):
                    load_model(path)
            (Path(work) / "empty.csv").write_text("a,b\n")
            with self.assertRaisesRegex(ConversionError, "no rows"):
                load_data(Path(work) / "empty.csv")

    def test_columns_that_the_model_was_not_trained_on(self):
        rows, labels = load_iris(return_X_y=True, as_frame=True)
        model = LogisticRegression(max_iter=500).fit(rows, labels)
        self.refuses(r"lack the columns `petal width \(cm\)`", model, rows.iloc[:, :3])
        model = LogisticRegression(max_iter=500).fit(rows.to_numpy(), labels)
        self.assertIn(
            "target", self.refuses("have 5 columns, the model was trained on 4", model, rows.assign(target=labels))
        )

    def test_probabilities_under_columns_without_maps(self):
        rows, labels = load_iris(return_X_y=True, as_frame=True)
        model = LogisticRegression(max_iter=500).fit(rows, labels)
        self.assertIn("--zipmap", self.refuses("column signature", model, rows, columns=True, zipmap=False))

    def test_texts_under_columns(self):
        cars, sold = pricing()
        model = make_pipeline(ColumnTransformer([("t", OneHotEncoder(), ["maker"])]), LogisticRegression()).fit(
            cars, sold
        )
        self.assertIn("leave out `--columns`", self.refuses("takes other tensors", model, cars, columns=True))

    def test_numbers_too_fine_for_float32(self):
        rows = pd.DataFrame({"id": np.arange(2**24, 2**24 + 200.0)})
        model = lightgbm.LGBMClassifier(n_estimators=20, min_child_samples=1, verbose=-1).fit(rows, np.arange(200) % 2)
        self.assertIn("16,777,216", self.refuses("differs from the original in .* rows", model, rows))

    def test_models_of_other_kinds(self):
        rows, _ = load_iris(return_X_y=True)
        for model in (KMeans(2, n_init=1).fit(rows), IsolationForest(n_estimators=5).fit(rows)):
            self.assertIn("skl2onnx", self.refuses("neither a classifier nor a regression", model, rows))

    def test_options_that_the_converter_does_not_know(self):
        rows, target = load_diabetes(return_X_y=True)
        model = xgboost.XGBRegressor(objective="reg:logistic", n_estimators=5).fit(rows, target / 400)
        self.assertIn("may not know an option", self.refuses("differs from the original", model, rows))

    def test_tolerance_of_nothing(self):
        rows, target = load_diabetes(return_X_y=True)
        model = HistGradientBoostingRegressor(max_iter=5).fit(rows, target)
        self.refuses("largest difference", model, rows, tolerance=0.0)

    def test_steps_without_an_onnx_form(self):
        rows, labels = load_iris(return_X_y=True)
        model = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression(max_iter=500)).fit(rows, labels)
        self.assertIn("FunctionTransformer", self.refuses("converter of sklearn failed", model, rows))
        self.refuses("has no `predict`", StandardScaler().fit(rows), rows)

    def test_categories_of_pandas(self):
        rows = pd.DataFrame({"a": pd.Series(list("xyz") * 30, dtype="category"), "b": np.arange(90.0)})
        for model in (
            lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(rows, rows["b"] > 40),
            xgboost.XGBClassifier(n_estimators=2, enable_categorical=True).fit(rows, rows["b"] > 40),
        ):
            self.assertIn("OneHotEncoder", self.refuses("`category`", model, rows))


class Forms(unittest.TestCase):
    """What the package says of itself."""

    def test_classifier_without_probabilities_answers_labels_alone(self):
        rows, labels = load_iris(return_X_y=True)
        for model in (RidgeClassifier(), SVC()):
            converted = convert(model.fit(rows, labels), rows)
            self.assertEqual([value.name for value in converted.package["onnx_model"].graph.output], ["label"])
            self.assertEqual(converted.parity["labels_agree"], 150)

    def test_trees_behind_a_scaler_need_float64(self):
        random = np.random.default_rng(3)
        rows = 1000 + random.integers(0, 3000, (400, 2)) * 1e-5
        model = make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)).fit(
            rows, random.integers(0, 2, 400)
        )
        with self.assertRaises(ConversionError) as caught:
            convert(model, rows)
        self.assertIn("--float64", caught.exception.hint)
        for zipmap in (False, True):
            self.assertEqual(convert(model, rows, float64=True, zipmap=zipmap).parity["labels_agree"], 400)

    def test_regression_of_several_targets(self):
        rows, target = load_diabetes(return_X_y=True)
        converted = convert(LinearRegression().fit(rows, np.stack([target, -target], axis=1)), rows)
        self.assertEqual(converted.package["signature"].outputs.inputs[0].shape, (-1, 2))

    def test_batch_axes_are_named(self):
        rows, labels = load_iris(return_X_y=True)
        graph = convert(LogisticRegression(max_iter=500).fit(rows, labels), rows).package["onnx_model"].graph
        for value in [*graph.input, *graph.output]:
            self.assertEqual(value.type.tensor_type.shape.dim[0].dim_param, "batch", value.name)

    def test_missing_texts_are_noted(self):
        cars, sold = pricing()
        model = make_pipeline(
            ColumnTransformer([("t", OneHotEncoder(handle_unknown="ignore"), ["maker"])]), LogisticRegression()
        ).fit(cars, sold)
        cars.loc[3, "maker"] = None
        self.assertRegex(" ".join(convert(model, cars).parity["notes"]), "`maker` has missing texts")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=BINARY)
    arguments, rest = parser.parse_known_args()
    BINARY = arguments.binary.resolve()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    if not has_verify():
        print("note: this binary has no `onstage verify`: the packages are served only")
    unittest.main(argv=[sys.argv[0], *rest])
