"""Tables with columns of text and numbers, encoded column by column."""

from typing import Any

import numpy as np
import pandas as pd
from families.registry import Draw
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler
from support import Feed

from recipes.registry import Table, Trained, classifier_answers, converted, described, recipe

COLOURS = ["red", "green", "blue", "été", "日本", ""]
SIZES = ["S", "M", "L", "XL"]


class Mixed:
    """A table of two columns of text, one of whole numbers and some of floats with gaps."""

    def __init__(self, d: Draw) -> None:
        self.d = d
        self.table = Table(d, features=d.between(1, 4), gaps=0.1)
        self.colours = d.some(COLOURS, d.between(2, 5))
        self.frame = self.rows(len(self.table.x), self.table.x)

    def rows(self, count: int, numbers: np.ndarray | None = None, new: bool = False) -> pd.DataFrame:
        """New rows, with words that the model has not seen where that is asked."""
        rng = self.d.rng
        numbers = self.table.rows(count) if numbers is None else numbers
        colours = [*self.colours, "new"] if new else self.colours
        found: dict[str, Any] = {"colour": rng.choice(np.array(colours, dtype=object), count)}
        found["size"] = rng.choice(np.array(SIZES, dtype=object), count)
        found["count"] = rng.integers(0, 4, count)
        for column in range(numbers.shape[1]):
            found[f"x{column}"] = numbers[:, column]
        return pd.DataFrame(found)

    def names(self) -> list[str]:
        """The columns of floats."""
        return [name for name in self.frame.columns if name.startswith("x")]


def encoder(d: Draw, known: bool) -> Any:
    """From words to numbers; a new word is ignored, or has a number of its own."""
    if d.chance(0.5):
        return OneHotEncoder(handle_unknown="error" if known else "ignore", drop=d.one([None, "first"]) if known else None)
    if known:
        return OrdinalEncoder()
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def numeric(d: Draw) -> Any:
    """What fills and scales the floats."""
    strategy = d.one(["mean", "median", "constant"])
    scaler = d.one([StandardScaler(), MinMaxScaler(), RobustScaler(), None])
    imputer = SimpleImputer(strategy=strategy)
    return imputer if scaler is None else make_pipeline(imputer, scaler)


@recipe(5)
def mixed_columns(d: Draw) -> Trained:
    """A column transformer and a model; every column is an input of its own."""
    mixed, known = Mixed(d), d.chance(0.4)
    parts: list[tuple[str, Any, list[str]]] = [
        ("words", encoder(d, known), ["colour", "size"]),
        ("floats", numeric(d), mixed.names()),
    ]
    if d.chance(0.5):
        parts.append(
            ("counts", d.one([StandardScaler(), FunctionTransformer(), OneHotEncoder(handle_unknown="ignore")]), ["count"])
        )
    columns = ColumnTransformer(parts, remainder="drop")
    classes = d.chance(0.65)
    if classes:
        last: Any = d.one(
            [
                LogisticRegression(max_iter=200),
                RandomForestClassifier(n_estimators=8, max_depth=5, random_state=1),
                GradientBoostingClassifier(n_estimators=8, random_state=1),
                HistGradientBoostingClassifier(max_iter=8),
            ]
        )
        if isinstance(last, HistGradientBoostingClassifier):
            columns.set_params(sparse_threshold=0)
        target = mixed.table.classes()
    else:
        last, target = d.one([Ridge(), RandomForestRegressor(n_estimators=8, max_depth=5, random_state=1)]), mixed.table.numbers()
    model = make_pipeline(columns, last).fit(mixed.frame, target)
    used = ["colour", "size", *mixed.names()] + (["count"] if len(parts) == 3 else [])
    types = [(name, kind_of(name)) for name in used]
    graph = converted(d, model, types)

    def rows(count: int) -> Feed:
        frame = mixed.rows(count, new=not known)
        return {name: frame[[name]].to_numpy() for name in used}

    def library(feed: Feed) -> list[np.ndarray | None]:
        frame = pd.DataFrame({name: array[:, 0] for name, array in feed.items()})
        frame = frame.assign(count=0) if "count" not in used else frame
        return classifier_answers(model)(frame) if classes else [np.asarray(model.predict(frame))]

    return Trained(graph, rows, library, described(model))


def kind_of(name: str) -> Any:
    """The type of a column for the converter."""
    if name in ("colour", "size"):
        return StringTensorType([None, 1])
    return Int64TensorType([None, 1]) if name == "count" else FloatTensorType([None, 1])
