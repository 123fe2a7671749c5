"""XGBoost, LightGBM and CatBoost, alone and behind steps of scikit-learn."""

import tempfile
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import onnx
import xgboost
from families.registry import Draw
from onnxmltools import convert_lightgbm as lightgbm_graph
from onnxmltools import convert_xgboost as xgboost_graph
from onnxmltools.convert.common.data_types import FloatTensorType
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as classifier_shapes
from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as regressor_shapes
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import Feed

from recipes.registry import Table, Trained, classifier_answers, described, matrix_model, recipe

MAPS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
update_registered_converter(xgboost.XGBClassifier, "XgbClassifier", classifier_shapes, convert_xgboost, options=MAPS)
update_registered_converter(xgboost.XGBRegressor, "XgbRegressor", regressor_shapes, convert_xgboost)
update_registered_converter(lightgbm.LGBMClassifier, "LgbmClassifier", classifier_shapes, convert_lightgbm, options=MAPS)
update_registered_converter(lightgbm.LGBMRegressor, "LgbmRegressor", regressor_shapes, convert_lightgbm, options={"split": None})


def gapped(d: Draw) -> Table:
    """A table with gaps, or without."""
    return Table(d, gaps=d.one([0.0, 0.0, 0.15]))


def codes(labels: np.ndarray) -> np.ndarray:
    """Labels counted from 0, which is all that XGBoost takes."""
    return np.unique(labels, return_inverse=True)[1]


def finished(graph: onnx.ModelProto, table: Table, model: Any) -> Trained:
    """A graph of a library's own converter."""

    def library(feed: Feed) -> list[np.ndarray | None]:
        if hasattr(model, "predict_proba"):
            found = classifier_answers(model)(feed["X"])
            return [None if each is None else np.asarray(each) for each in found]
        return [np.asarray(model.predict(feed["X"]))]

    name = graph.graph.input[0].name

    def rows(count: int) -> Feed:
        return {name: table.rows(count)}

    def named(feed: Feed) -> list[np.ndarray | None]:
        return library({"X": feed[name]})

    return Trained(graph.SerializeToString(), rows, named, described(model))


def xgb_settings(d: Draw) -> dict[str, Any]:
    """Small ensembles."""
    return {
        "n_estimators": d.one([1, 5, 30]),
        "max_depth": d.one([1, 3, 6]),
        "learning_rate": d.one([0.1, 0.5]),
        "n_jobs": 1,
        "base_score": d.one([None, None, 0.5, 0.2]),
        "min_child_weight": d.one([0.1, 1]),
        "random_state": d.between(0, 999),
    }


@recipe(4)
def xgb(d: Draw) -> Trained:
    """Classes, numbers and counts."""
    table, settings = gapped(d), xgb_settings(d)
    if d.chance(0.6):
        model: Any = xgboost.XGBClassifier(**settings).fit(table.x, codes(table.classes()))
    else:
        objective = d.one(
            ["reg:squarederror", "reg:squarederror", "count:poisson", "reg:gamma", "reg:tweedie", "reg:absoluteerror"]
        )
        positive = objective not in ("reg:squarederror", "reg:absoluteerror")
        model = xgboost.XGBRegressor(objective=objective, **settings).fit(table.x, table.numbers(positive=positive))
    types = [("X", FloatTensorType([None, table.features]))]
    return finished(xgboost_graph(model, initial_types=types, target_opset=d.one([None, 15])), table, model)


def lgbm_settings(d: Draw) -> dict[str, Any]:
    """Small ensembles of each kind of boosting."""
    return {
        "n_estimators": d.one([1, 5, 30]),
        "num_leaves": d.one([3, 15, 31]),
        "boosting_type": d.one(["gbdt", "gbdt", "dart"]),
        "min_child_samples": d.one([3, 10]),
        "learning_rate": d.one([0.1, 0.5]),
        "n_jobs": 1,
        "verbose": -1,
        "random_state": d.between(0, 999),
    }


@recipe(4)
def lgbm(d: Draw) -> Trained:
    """Classes, numbers and counts; whole columns may be categories."""
    table, settings = gapped(d), lgbm_settings(d)
    fitting: dict[str, Any] = {}
    if "whole" in table.kinds and d.chance(0.5):
        place = table.kinds.index("whole")
        table.x[:, place] = np.abs(table.x[:, place])
        fitting["categorical_feature"] = [place]
        settings |= {"min_data_per_group": 5, "cat_smooth": 1.0}
    if d.chance(0.6):
        model: Any = lightgbm.LGBMClassifier(**settings).fit(table.x, table.classes(), **fitting)
        maps = d.chance(0.25)
    else:
        objective = d.one(["regression", "regression", "regression_l1", "poisson", "tweedie", "gamma"])
        positive = objective in ("poisson", "tweedie", "gamma")
        model = lightgbm.LGBMRegressor(objective=objective, **settings).fit(table.x, table.numbers(positive=positive), **fitting)
        maps = False
    types = [("X", FloatTensorType([None, table.features]))]
    return finished(lightgbm_graph(model, initial_types=types, zipmap=maps, target_opset=d.one([None, 15])), table, model)


@recipe(3)
def cat(d: Draw) -> Trained:
    """CatBoost's own exporter."""
    table = gapped(d)
    settings: dict[str, Any] = {"iterations": d.one([1, 5, 30]), "depth": d.one([1, 3, 6]), "thread_count": 1, "verbose": False}
    settings |= {"allow_writing_files": False, "random_seed": d.between(0, 999)}
    if d.chance(0.6):
        model: Any = catboost.CatBoostClassifier(**settings).fit(table.x, table.classes())
    else:
        model = catboost.CatBoostRegressor(loss_function=d.one(["RMSE", "MAE"]), **settings).fit(table.x, table.numbers())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.save_model(str(path), format="onnx")
        graph = onnx.load(path)
    found = finished(graph, table, model)
    asked = found.library
    # The library answers labels as a column.
    found.library = lambda feed: [
        None if each is None else each.reshape(-1) if at == 0 else each for at, each in enumerate(asked(feed))
    ]
    return found


@recipe(2)
def boosted_pipeline(d: Draw) -> Trained:
    """A scaler before the trees."""
    table = Table(d)
    if d.chance(0.5):
        model: Any = d.one([xgboost.XGBClassifier(**xgb_settings(d)), lightgbm.LGBMClassifier(**lgbm_settings(d))])
        y, kind = codes(table.classes()), "classifier"
    else:
        model = d.one([xgboost.XGBRegressor(**xgb_settings(d)), lightgbm.LGBMRegressor(**lgbm_settings(d))])
        y, kind = table.numbers(), "regressor"
    return matrix_model(d, make_pipeline(StandardScaler(), model).fit(table.x, y), table, kind)
