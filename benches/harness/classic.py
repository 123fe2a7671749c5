"""Trains and converts classic models for `cargo bench --bench classic`: `classic.py DIRECTORY`."""

import pathlib
import sys
from typing import Any

import lightgbm
import numpy
import onnxmltools
import pandas
import skl2onnx
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as Floats
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS, FEATURES = 20_000, 30
random = numpy.random.default_rng(0)
x = random.normal(size=(ROWS, FEATURES)).astype(numpy.float32)
y = x[:, :5].sum(1) + numpy.sin(x[:, 5] * 3) * x[:, 6] + random.normal(size=ROWS) * 0.5
classes = (y > 0).astype(int)


def save(model: Any, name: str) -> None:
    (pathlib.Path(sys.argv[1]) / f"{name}.onnx").write_bytes(model.SerializeToString())


def boosted() -> None:
    """Boosted trees of all sizes."""
    of = [("X", Floats([None, FEATURES]))]
    sizes: dict[str, dict[str, int]] = {
        "lightgbm-100x6": {"n_estimators": 100, "max_depth": 6, "num_leaves": 64},
        "lightgbm-default": {},
        "lightgbm-500x8": {"n_estimators": 500, "max_depth": 8, "num_leaves": 256},
    }
    for name, size in sizes.items():
        model = lightgbm.LGBMClassifier(verbose=-1, **size).fit(x, classes)
        save(onnxmltools.convert_lightgbm(model, initial_types=of, zipmap=False, target_opset=15), name)
    for name, trees, depth in (("xgboost-100x6", 100, 6), ("xgboost-500x8", 500, 8)):
        model = xgboost.XGBRegressor(n_estimators=trees, max_depth=depth).fit(x, y)
        save(onnxmltools.convert_xgboost(model, initial_types=of, target_opset=15), name)
    model = GradientBoostingClassifier(n_estimators=100, max_depth=3).fit(x[:5000], classes[:5000])
    save(skl2onnx.to_onnx(model, x[:1], options={"zipmap": False}), "boosting-100x3")


def forests() -> None:
    """Forests whose trees go down to single rows."""
    model = RandomForestClassifier(100, max_depth=26).fit(x[:3000], classes[:3000])
    save(skl2onnx.to_onnx(model, x[:1], options={"zipmap": False}), "forest-100")
    save(skl2onnx.to_onnx(RandomForestRegressor(20).fit(x, y), x[:1]), "forest-20-deep")


def pipelines() -> None:
    """Text and numbers, one input for each column."""
    numbers = [f"n{index}" for index in range(6)]
    columns = {name: x[:, index] for index, name in enumerate(numbers)}
    texts = {name: random.choice(["x", "y", "z", "w"], ROWS) for name in ("a", "b")}
    before = ColumnTransformer([("text", OneHotEncoder(), ["a", "b"]), ("numbers", StandardScaler(), numbers)])
    model = make_pipeline(before, LogisticRegression()).fit(pandas.DataFrame(texts | columns), classes)
    types: list[tuple[str, Any]] = [(name, StringTensorType([None, 1])) for name in texts]
    types += [(name, FloatTensorType([None, 1])) for name in numbers]
    for name, options in (("pipeline", {"zipmap": False}), ("pipeline-zipmap", {})):
        save(skl2onnx.convert_sklearn(model, initial_types=types, options=options), name)


boosted()
forests()
pipelines()
