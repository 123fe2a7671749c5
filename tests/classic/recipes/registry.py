"""What the recipes share: tables to learn from, conversion by skl2onnx, and the list of recipes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from families.registry import Draw
from skl2onnx import to_onnx
from skl2onnx.common import _container
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType
from support import Feed, Json

Library = Callable[[Feed], list[np.ndarray | None]]


@dataclass
class Trained:
    """A converted model, rows to ask it about, and what its library answers to them: for each output, or None."""

    model: bytes
    rows: Callable[[int], Feed]
    library: Library
    estimator: str


Recipe = Callable[[Draw], Trained]
RECIPES: dict[str, tuple[Recipe, int]] = {}


def recipe(weight: int = 1) -> Callable[[Recipe], Recipe]:
    """Registers a recipe; one of weight 2 comes twice before the others come again."""

    def register(build: Recipe) -> Recipe:
        RECIPES[build.__name__] = (build, weight)
        return build

    return register


class Table:
    """Columns of several kinds with something to learn in them."""

    def __init__(self, d: Draw, features: int | None = None, gaps: float = 0.0, positive: bool = False) -> None:
        self.d = d
        self.features = features or d.one([2, 3, 4, 6, 9])
        self.kinds = d.many(["normal", "normal", "whole", "skewed", "truth"], self.features)
        self.kinds[0] = "normal"
        self.gaps = gaps
        self.positive = positive
        self.slopes = d.rng.standard_normal((self.features, 2))
        self.x = self.rows(d.one([120, 250]))

    def rows(self, count: int) -> np.ndarray:
        """New rows."""
        rng, columns = self.d.rng, []
        for kind in self.kinds:
            if kind == "whole":
                column = rng.integers(-3, 6, count).astype(np.float64)
            elif kind == "truth":
                column = (rng.random(count) < 0.4).astype(np.float64)
            else:
                column = np.exp(rng.standard_normal(count)) if kind == "skewed" else rng.standard_normal(count) * 2
            columns.append(np.abs(column) if self.positive else column)
        found = np.stack(columns, axis=1).astype(np.float32)
        if self.gaps:
            found[rng.random(found.shape) < self.gaps] = np.nan
        return found

    def score(self, column: int = 0) -> np.ndarray:
        """A number for each row, which depends on the columns and their products."""
        filled = np.nan_to_num(self.x, nan=1.5).astype(np.float64)
        found = filled @ self.slopes[:, column] + np.sin(filled[:, 0]) * filled[:, -1]
        return found + 0.2 * self.d.rng.standard_normal(len(found))

    def numbers(self, positive: bool = False, targets: int = 1) -> np.ndarray:
        """Targets of a regression."""
        found = np.stack([self.score(column) for column in range(targets)], axis=1)
        found = np.exp(np.clip(found / 4, -3, 3)) if positive else found
        return found[:, 0] if targets == 1 else found

    def classes(self, count: int | None = None) -> np.ndarray:
        """Labels, of which every one occurs."""
        count = count or self.d.one([2, 2, 3, 4])
        order = np.argsort(np.argsort(self.score(), kind="stable"), kind="stable")
        codes = order * count // len(order)
        labels: Sequence[Json] = list(range(count))
        if self.d.chance(0.3):
            labels = sorted(self.d.some(["no", "yes", "maybe", "été", "日本", "A"], count))
        elif self.d.chance(0.2):
            labels = sorted(self.d.some([-1, 1, 3, 7, 20], count))
        return np.array(labels)[codes]


@contextlib.contextmanager
def whole_numbers() -> Iterator[None]:
    """The converter gives booleans where the standard has integers, which newer versions of onnx refuse."""
    given = _container.make_node

    def make_node(*arguments: Any, **attributes: Any) -> Any:
        for name, value in attributes.items():
            if isinstance(value, list) and any(isinstance(item, bool | np.bool_) for item in value):
                attributes[name] = [int(item) for item in value]
        return given(*arguments, **attributes)

    _container.make_node = make_node
    try:
        yield
    finally:
        _container.make_node = given


def opset(d: Draw) -> dict[str, int] | None:
    """Operator sets of different age."""
    return d.one(
        [None, {"": 21, "ai.onnx.ml": 3}, {"": 18, "ai.onnx.ml": 3}, {"": 15, "ai.onnx.ml": 2}, {"": 13, "ai.onnx.ml": 1}]
    )


def converted(d: Draw, model: Any, types: Sequence[tuple[str, Any]], options: dict[str, Json] | None = None) -> bytes:
    """The graph; scores of a classifier come as a matrix or as maps."""
    given: dict[Any, Any] = dict(options or {})
    target, maps = opset(d), {"zipmap": d.chance(0.2)}
    # SVC always has the option; other classifiers without probabilities lack it.
    mapped = hasattr(model, "predict_proba") or type(model.steps[-1][1] if hasattr(model, "steps") else model).__name__ == "SVC"
    if mapped and hasattr(model, "classes_") and id(model) not in given:
        given[id(model)] = maps
    with whole_numbers():
        found = to_onnx(model, initial_types=list(types), options=given or None, target_opset=target)
    return bytes(found.SerializeToString())


def described(model: Any) -> str:
    """The names of an estimator and of its steps."""
    if hasattr(model, "steps"):
        return " + ".join(described(each) for _, each in model.steps)
    return type(model).__name__


def classifier_answers(model: Any) -> Callable[[Any], list[np.ndarray | None]]:
    """Labels, and probabilities where the model has them."""

    def answers(x: Any) -> list[np.ndarray | None]:
        scores = model.predict_proba(x) if hasattr(model, "predict_proba") else None
        return [np.asarray(model.predict(x)), scores]

    return answers


def matrix_model(d: Draw, model: Any, table: Table, kind: str, options: dict[str, Json] | None = None) -> Trained:
    """A fitted estimator over one matrix of floats; `kind` is `classifier`, `regressor` or `transformer`."""
    form, dtype = d.one([(FloatTensorType, "float32")] * 18 + [(DoubleTensorType, "float64"), (Int64TensorType, "int64")])
    if dtype == "int64" and table.gaps:
        form, dtype = FloatTensorType, "float32"
    graph = converted(d, model, [("X", form([None, table.features]))], options)

    def library(feed: Feed) -> list[np.ndarray | None]:
        if kind == "classifier":
            return classifier_answers(model)(feed["X"])
        found = model.transform(feed["X"]) if kind == "transformer" else model.predict(feed["X"])
        return [np.asarray(found.todense() if hasattr(found, "todense") else found)]

    return Trained(graph, lambda count: {"X": table.rows(count).astype(dtype)}, library, described(model))
