"""What cannot be converted ends with a reason and a hint, and nothing is written or registered."""

import subprocess
import sys

import catboost
import lightgbm
import mlflow
import numpy as np
import onstage
import pandas as pd
import pytest
import xgboost
from models import LEAVES, NUMBERS, SEEN, columns
from sklearn import model_selection
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsOneClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

NUMBERS_ONLY = SEEN[NUMBERS].fillna(0)
CAT = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, rows, _=None):
        self.fitted_ = True
        return self

    def transform(self, rows):
        return np.asarray(rows) * 2


def refuses(tmp_path, model, data=None, kind=onstage.ConversionError):
    with pytest.raises(kind) as caught:
        onstage.convert(model, data, output=tmp_path / "package")
    assert not (tmp_path / "package").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: LogisticRegression(), "`LogisticRegression` is not fitted"),
        (lambda: {"model": 1}, "the model is a `builtins.dict`"),
        (lambda: StandardScaler().fit(NUMBERS_ONLY), "`StandardScaler` has no `predict`"),
        (lambda: make_pipeline(Doubled(), LogisticRegression(max_iter=9)).fit(NUMBERS_ONLY, LEAVES), "Doubled"),
        (
            lambda: make_pipeline(FunctionTransformer(lambda x: x * 2), LogisticRegression()).fit(NUMBERS_ONLY, LEAVES),
            "a Python function",
        ),
        (
            lambda: MultiOutputClassifier(LogisticRegression()).fit(NUMBERS_ONLY, np.stack([LEAVES, LEAVES], 1)),
            "several targets at once",
        ),
        (
            lambda: xgboost.XGBClassifier(n_estimators=2, enable_categorical=True).fit(
                NUMBERS_ONLY.assign(city=SEEN["city"].astype("category")), LEAVES
            ),
            "categorical columns",
        ),
    ],
)
def test_models_without_a_form(tmp_path, model, said):
    data = NUMBERS_ONLY.assign(city=SEEN["city"]) if "categorical" in said else NUMBERS_ONLY
    text = refuses(tmp_path, model(), data)
    assert said in text
    assert "hint: " in text


QUIET = {"n_estimators": 5, "verbose": -1}


def tuned():
    if not hasattr(model_selection, "FixedThresholdClassifier"):
        pytest.skip("scikit-learn 1.5 brought tuned thresholds")
    return model_selection.FixedThresholdClassifier(LogisticRegression(), threshold=0.2)


# Faults of the converters (skl2onnx 1.20, onnxmltools 1.16) that nothing here mends.
@pytest.mark.parametrize(
    "model",
    [
        lambda: KNeighborsRegressor(weights="distance").fit(NUMBERS_ONLY, LEAVES * 9.0),
        lambda: tuned().fit(NUMBERS_ONLY, LEAVES),
        lambda: lightgbm.LGBMRegressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, n_estimators=5, verbose=-1).fit(
            NUMBERS_ONLY, LEAVES
        ),
        lambda: lightgbm.LGBMClassifier(objective="multiclassova", **QUIET).fit(NUMBERS_ONLY, SEEN["visits"] // 10),
        lambda: OneVsOneClassifier(LogisticRegression()).fit(NUMBERS_ONLY, np.array(["a", "b", "c"])[SEEN["visits"] % 3]),
    ],
)
def test_faults_of_converters_are_refused_or_right(tmp_path, model):
    """Whether a newer converter mends them or not: never is a wrong graph written."""
    trained = model()
    try:
        package = onstage.convert(trained, NUMBERS_ONLY, output=tmp_path / "package")
    except onstage.ConversionError as refused:
        assert not isinstance(refused, onstage.ParityError) or refused.report["refused_rows"]
        return
    found = mlflow.pyfunc.load_model(package).predict(NUMBERS_ONLY)
    got = found["prediction"] if "prediction" in found else found["label"]
    np.testing.assert_allclose(np.ravel(list(got)), trained.predict(NUMBERS_ONLY), rtol=1e-4, atol=1e-4)


POSITIVE = np.exp(NUMBERS_ONLY["age"] / 50 - 1) + LEAVES
TWO = np.stack([POSITIVE, NUMBERS_ONLY["age"] - 40.0], axis=1)


# Faults of the converters that are mended here: each of these came out wrong, or not at all.
@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (lambda: RandomForestRegressor(5, random_state=0).fit(SEEN[NUMBERS], LEAVES), SEEN[NUMBERS]),
        (lambda: make_pipeline(SimpleImputer(add_indicator=True), LinearRegression()).fit(SEEN[NUMBERS], LEAVES), SEEN[NUMBERS]),
        (lambda: HistGradientBoostingRegressor(loss="poisson", max_iter=9).fit(NUMBERS_ONLY, POSITIVE), NUMBERS_ONLY),
        (lambda: HistGradientBoostingRegressor(loss="gamma", max_iter=9).fit(NUMBERS_ONLY, POSITIVE), NUMBERS_ONLY),
        (lambda: lightgbm.LGBMRegressor(zero_as_missing=True, **QUIET).fit(NUMBERS_ONLY, POSITIVE), NUMBERS_ONLY),
        (
            lambda: make_pipeline(StandardScaler(), lightgbm.LGBMRegressor(zero_as_missing=True, **QUIET)).fit(
                NUMBERS_ONLY, POSITIVE
            ),
            NUMBERS_ONLY,
        ),
        (lambda: xgboost.XGBRegressor(objective="reg:logistic", n_estimators=3).fit(NUMBERS_ONLY, LEAVES), NUMBERS_ONLY),
        (lambda: xgboost.XGBRegressor(n_estimators=3).fit(NUMBERS_ONLY, TWO), NUMBERS_ONLY),
        (lambda: LinearRegression().fit(NUMBERS_ONLY, TWO), NUMBERS_ONLY),
        (lambda: catboost.CatBoostRegressor(5, loss_function="Poisson", **CAT).fit(NUMBERS_ONLY, POSITIVE), NUMBERS_ONLY),
        (lambda: make_pipeline(StandardScaler(), catboost.CatBoostRegressor(5, **CAT)).fit(NUMBERS_ONLY, POSITIVE), NUMBERS_ONLY),
        (
            lambda: TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1).fit(
                NUMBERS_ONLY, POSITIVE
            ),
            NUMBERS_ONLY,
        ),
        (lambda: xgboost.XGBRegressor(n_estimators=3).fit(SEEN[["member", "visits"]], LEAVES), SEEN[["member", "visits"]]),
    ],
)
def test_faults_that_are_mended(tmp_path, model, rows):
    trained = model()
    found = mlflow.pyfunc.load_model(onstage.convert(trained, rows, output=tmp_path / "package")).predict(rows)
    got = np.stack([found[name].to_numpy(float) for name in found], axis=1)
    want = trained.predict(rows).reshape(len(rows), -1)
    assert got.shape == want.shape
    assert (np.abs(got - want) > 1e-5 * np.maximum(1, np.abs(want))).any(axis=1).mean() < 0.03


def test_a_linear_discriminant_of_two_classes(tmp_path):
    trained = LinearDiscriminantAnalysis().fit(NUMBERS_ONLY, LEAVES)
    found = mlflow.pyfunc.load_model(onstage.convert(trained, NUMBERS_ONLY, output=tmp_path / "package")).predict(NUMBERS_ONLY)
    got = [[row[0], row[1]] for row in found["probabilities"]]
    np.testing.assert_allclose(got, trained.predict_proba(NUMBERS_ONLY), atol=1e-5)


def test_columns_may_have_the_names_of_outputs(tmp_path):
    rows = NUMBERS_ONLY.set_axis(["label", "probabilities", "output_label"], axis=1)
    trained = LogisticRegression().fit(rows, LEAVES)
    mixed = rows.assign(label=rows["label"].astype(int))
    found = mlflow.pyfunc.load_model(onstage.convert(trained, mixed, output=tmp_path / "package")).predict(mixed)
    assert list(found) == ["label_of_model", "output_probability"]
    assert (found["label_of_model"] == trained.predict(mixed)).all()


def test_dates_and_contradictions(tmp_path):
    model = make_pipeline(columns(), LogisticRegression()).fit(SEEN, LEAVES)
    assert "dates" in refuses(tmp_path, model, SEEN.assign(age=pd.Timestamp("2026-01-01")))
    mlflow.sklearn.save_model(
        model,
        tmp_path / "logged",
        signature=mlflow.models.infer_signature(SEEN),
        serialization_format="cloudpickle",
        pip_requirements=[],
    )
    text = refuses(tmp_path, tmp_path / "logged", SEEN.assign(age="old"))
    assert "the signature says that column `age` is `double`" in text
    assert "lack the columns `age`" in refuses(tmp_path, tmp_path / "logged", SEEN.drop(columns="age"))


def test_libraries_of_other_versions(tmp_path):
    model = LogisticRegression().fit(NUMBERS_ONLY, LEAVES)
    mlflow.sklearn.save_model(
        model, tmp_path / "logged", serialization_format="cloudpickle", pip_requirements=["scikit-learn==1.2.0"]
    )
    text = refuses(tmp_path, tmp_path / "logged", NUMBERS_ONLY)
    assert "scikit-learn 1.2.0" in text
    assert f"pip install -r {tmp_path}/logged/requirements.txt 'onstage[sklearn]'" in text


def test_packages_of_a_newer_python(tmp_path):
    model = LogisticRegression().fit(NUMBERS_ONLY, LEAVES)
    mlflow.sklearn.save_model(model, tmp_path / "logged", serialization_format="cloudpickle", pip_requirements=[])
    manifest = tmp_path / "logged" / "MLmodel"
    here = f"python_version: {sys.version.split()[0]}"
    assert here in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(here, "python_version: 3.99.1"))
    text = refuses(tmp_path, tmp_path / "logged", NUMBERS_ONLY)
    assert "Python 3.99.1, here is" in text
    assert "python3.99 -m venv" in text


def test_a_model_larger_than_a_graph_can_be(tmp_path, monkeypatch):
    from onstage._convert import graph

    monkeypatch.setattr(graph, "LARGEST", 100)
    text = refuses(tmp_path, LogisticRegression().fit(NUMBERS_ONLY, LEAVES), NUMBERS_ONLY)
    assert "more than the 2 GiB that an ONNX file can hold" in text


def test_what_is_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no `MLmodel`" in refuses(tmp_path, tmp_path / "empty")
    assert "there is no file or directory" in refuses(tmp_path, "nowhere")
    (tmp_path / "model.h5").write_text("")
    assert "suffix `.h5`" in refuses(tmp_path, tmp_path / "model.h5")
    with pytest.raises(onstage.ConversionError, match="nowhere to go"):
        onstage.convert(LogisticRegression())


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "notes").write_text("mine")
    model = LogisticRegression().fit(NUMBERS_ONLY, LEAVES)
    with pytest.raises(onstage.ConversionError, match="holds other files"):
        onstage.convert(model, NUMBERS_ONLY, output=tmp_path / "package")
    assert (tmp_path / "package" / "notes").read_text() == "mine"


def test_a_missing_extra_has_its_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    model = LogisticRegression().fit(NUMBERS_ONLY, LEAVES)
    text = refuses(tmp_path, model, NUMBERS_ONLY, onstage.MissingPackageError)
    assert "pip install 'onstage[sklearn]'" in text


def test_the_command_ends_with_1_and_a_hint(tmp_path):
    command = [sys.executable, "-m", "onstage._convert.command", str(tmp_path / "none"), "-o", str(tmp_path / "package")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no file or directory")
    assert "hint: " in done.stderr
    assert subprocess.run(command[:-2], capture_output=True, check=False).returncode == 2


def test_nothing_is_half_registered(registry, monkeypatch):
    def denied(*_, **__):
        raise mlflow.MlflowException("PERMISSION_DENIED")

    monkeypatch.setattr(mlflow, "register_model", denied)
    before = len(mlflow.search_runs(experiment_ids=["0"], output_format="list"))
    with pytest.raises(onstage.RegistryError, match="PERMISSION_DENIED"):
        onstage.convert(RandomForestClassifier(2).fit(NUMBERS_ONLY, LEAVES), NUMBERS_ONLY, register="denied")
    assert len(mlflow.search_runs(experiment_ids=["0"], output_format="list")) == before
    assert not mlflow.MlflowClient().search_registered_models("name = 'denied'")
