"""The converters of each library, called so that what comes out is plain: labels and a matrix, no maps."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onstage._convert import boosters, imputer, inverse, mends, rewrite
from onstage._convert.known import knowledge
from onstage._convert.layout import FLOATS, Layout
from onstage._convert.lift import lifted
from onstage._convert.original import LightGbmBooster, Original, library_of, steps
from onstage._convert.source import brief
from onstage._extras import missing_package, need
from onstage.errors import ConversionError, OnstageError

OPSETS = {"": 17, "ai.onnx.ml": 3}
# What scikit-learn's default pattern finds, in the words of ONNX Runtime's `Tokenizer`.
DEFAULT_TOKENS = (r"(?u)\b\w\w+\b", r"[\p{L}\p{N}_]{2,}")


@dataclass
class Attempt:
    """One way to convert: the next is tried where its answers differ."""

    double: bool = False
    # Whole numbers as floating-point ones: some steps take only those.
    floats: bool = False
    categories: dict[int, list[Any]] = field(default_factory=dict)
    zero_is_missing: bool = False
    # The texts that the model knows.
    words: frozenset[str] = frozenset()
    # The label is that of the largest probability, the first of equals: half of the votes for each of two classes are
    # not exactly a half in float32.
    label_of_probabilities: bool = False


def attempts(original: Original, layout: Layout) -> list[Attempt]:
    """The ways to convert a model, the plainest first."""
    zero = original.library == "lightgbm" and mends.zero_as_missing(original.model)
    known = [value for values in knowledge(original, layout).values.values() for value in values]
    words = frozenset(value for value in known if isinstance(value, str))
    plain = Attempt(categories=original.categories, zero_is_missing=zero, words=words)
    found = [plain]
    whole = any(c.kind not in FLOATS and c.kind != "string" for c in layout.columns)
    if layout.inner == "columns" and whole:
        found.append(Attempt(floats=True, words=words))
    if original.library == "sklearn" and not original.text:
        exact = Attempt(double=True, floats=True, words=words)
        # Trees cut between whole numbers, which scaled in float32 may fall on the other side: in rows that nobody has tried.
        trees = any(mends.rounds(step) or hasattr(step, "_predictors") for step in steps(original.model))
        found.insert(0 if trees and hasattr(original.model, "steps") else len(found), exact)
    if original.probabilistic and any(type(step).__module__ == "sklearn.ensemble._forest" for step in last(original.model)):
        return [replace(each, label_of_probabilities=True) for each in found]
    return found


def last(model: Any) -> list[Any]:
    """The estimator that answers."""
    return [model.steps[-1][1]] if hasattr(model, "steps") else [model]


def convert(original: Original, layout: Layout, attempt: Attempt) -> Any:
    """The graph of the library's converter, or an error that names what it does not know."""
    try:
        if original.library == "torch":
            return torch_graph(original, layout)
        if original.library == "catboost":
            return catboost_graph(original)
        if isinstance(original.model, LightGbmBooster):
            return lightgbm_graph(original)
        return sklearn_graph(original, layout, attempt)
    except OnstageError:
        raise
    except ModuleNotFoundError as missing:
        raise missing_package(missing, original.library) from missing
    except Exception as cause:  # the converters raise anything from KeyError to RuntimeError
        raise failed(original, cause) from cause


def failed(original: Original, cause: Exception) -> ConversionError:
    """The error for a step without a converter, by its name where it can be told."""
    custom = [
        type(step)
        for step in steps(original.model)
        if type(step).__module__.split(".")[0] not in ("sklearn", "xgboost", "lightgbm", "catboost", "onstage")
    ]
    functions = [step for step in steps(original.model) if type(step).__name__ == "FunctionTransformer"]
    unknown = [step for step in steps(original.model) if str(type(step)) in str(cause)]
    if custom:
        named = f"{custom[0].__module__}.{custom[0].__qualname__}"
        return ConversionError(
            f"the step `{named}` is not of a library that the converters know",
            "register a converter for it with `skl2onnx.update_registered_converter`, or replace it by a step of scikit-learn",
        )
    if functions and any(step.func is not None for step in functions):
        name = getattr(functions[0].func, "__qualname__", "?")
        return ConversionError(
            f"the pipeline has the `FunctionTransformer` of `{name}`, a Python function, which no graph can hold",
            "do its work before the model, or write it as an estimator with a converter of its own "
            "(`skl2onnx.update_registered_converter`)",
        )
    if type(cause).__name__ in ("MissingShapeCalculator", "MissingConverter") and unknown:
        return ConversionError(
            f"`{type(unknown[0]).__name__}` has no converter to ONNX",
            "replace it by an estimator that has one, or write one (`skl2onnx.update_registered_converter`)",
        )
    return ConversionError(
        f"the converter of {original.library} failed: {type(cause).__name__}: {brief(cause)}",
        "not every estimator has an ONNX form: replace the step that the message names",
    )


def inner_types(original: Original, layout: Layout, attempt: Attempt) -> list[tuple[str, Any]]:
    """The inputs of the converter's graph, with the types of skl2onnx."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

    number = DoubleTensorType if attempt.double else FloatTensorType
    if layout.inner == "text":
        return [("text", StringTensorType([None]))]
    if layout.inner == "matrix":
        texts = layout.columns[0].kind == "string" and not original.categories
        return [("features", (StringTensorType if texts else number)([None, len(layout.columns)]))]

    def of(kind: str) -> Any:
        if kind == "string":
            return StringTensorType
        return number if kind in FLOATS or attempt.floats else Int64TensorType

    names = original.names or []
    return [(name, of(column.kind)([None, 1])) for name, column in zip(names, layout.columns, strict=True)]


def sklearn_graph(original: Original, layout: Layout, attempt: Attempt) -> Any:
    """By skl2onnx, which is taught the boosting libraries' estimators as well."""
    skl2onnx = need("skl2onnx")
    given, after = inverse.peeled(rewrite.rewritten(original.model))
    boosters.register(given)
    hide_names(given)
    model = lifted(given)
    model = mends.rounding(model) if attempt.double else model
    options: dict[Any, Any] = {id(step): {"tokenexp": tokens(step)} for step in steps(model) if hasattr(step, "token_pattern")}
    for step in steps(model):
        if type(step).__name__ == "VotingClassifier":
            # The converter knows one form of `transform`, which plays no part in the answers.
            step.flatten_transform = False
    if original.probabilistic:
        options[id(model)] = {"zipmap": False}
    elif hasattr(model, "steps"):
        # Else the last step would be asked for maps, which it may not have.
        options[id(model.steps[-1][1])] = {}
    with booleans_as_integers(), mends.exact_trees() as thresholds, imputer.registered(), boosters.exponents():
        found = skl2onnx.to_onnx(
            model,
            name="model",
            initial_types=inner_types(original, layout, attempt),
            options=options,
            target_opset=OPSETS,
        )
    return inverse.followed(mends.double_trees(found, thresholds) if attempt.double else found, after)


@contextlib.contextmanager
def booleans_as_integers() -> Iterator[None]:
    """skl2onnx 1.20 gives booleans for integers (histogram boosting's missing values), which onnx 1.23 refuses."""
    import numpy as np
    from skl2onnx.common import _container

    given = _container.make_node

    def make_node(*arguments: Any, **attributes: Any) -> Any:
        for name, value in attributes.items():
            if isinstance(value, list) and any(isinstance(item, (bool, np.bool_)) for item in value):
                attributes[name] = [int(item) for item in value]
        return given(*arguments, **attributes)

    _container.make_node = make_node
    try:
        yield
    finally:
        _container.make_node = given


def tokens(vectorizer: Any) -> Any:
    """The pattern of words in the form of ONNX Runtime."""
    given = vectorizer.token_pattern
    return DEFAULT_TOKENS[1] if given == DEFAULT_TOKENS[0] else given


def hide_names(model: Any) -> None:
    """Forgets the names and types of XGBoost's features: its converter wants f0, f1, … and numbers, and fails at others."""
    for step in steps(model):
        if library_of(step) == "xgboost":
            booster = step.get_booster()
            booster.feature_names, booster.feature_types = None, None


def lightgbm_graph(original: Original) -> Any:
    """A plain booster by onnxmltools."""
    onnxmltools = need("onnxmltools", "lightgbm")
    from onnxmltools.convert.common.data_types import FloatTensorType
    from onnxmltools.convert.common.onnx_ex import get_maximum_opset_supported

    booster = original.model.booster_
    types = [("features", FloatTensorType([None, original.width]))]
    zipped = {"zipmap": False} if original.probabilistic else {}
    opset = min(OPSETS[""], get_maximum_opset_supported())
    return onnxmltools.convert_lightgbm(booster, "model", types, target_opset=opset, **zipped)


def catboost_graph(original: Original) -> Any:
    """CatBoost writes ONNX itself, its classifiers with a map at the end."""
    import onnx

    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "model.onnx"
        original.model.save_model(str(path), format="onnx")
        model = onnx.load(str(path))
    maps = next((node for node in model.graph.node if node.op_type == "ZipMap"), None)
    if maps is not None:
        model.graph.node.remove(maps)
        model.graph.output[1].CopyFrom(onnx.helper.make_tensor_value_info(maps.input[0], onnx.TensorProto.FLOAT, [None, None]))
    return inverse.followed(model, inverse.FUNCTIONS["exp"]) if mends.is_exponent(original.model) else model


def torch_graph(original: Original, layout: Layout) -> Any:
    """A module of PyTorch by its own exporter."""
    import onnx
    import torch

    rows = torch.zeros([2, *(size if size > 0 else 1 for size in layout.shape)])
    written = io.BytesIO()
    with without_modes(original.model):
        torch.onnx.export(
            original.model,
            (rows,),
            written,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            opset_version=OPSETS[""],
            dynamo=False,
        )
    return onnx.load_model_from_string(written.getvalue())


@contextlib.contextmanager
def without_modes(module: Any) -> Iterator[None]:
    """Keeps the exporter from setting the mode of a module that has only one, as those of MLflow's default format."""
    if type(module).__name__ not in ("GraphModule", "GraphModuleImpl"):
        yield
        return
    given = {name: vars(module)[name] for name in ("train", "eval") if name in vars(module)}
    for name in given:
        setattr(module, name, lambda *_: module)
    try:
        yield
    finally:
        for name, method in given.items():
            setattr(module, name, method)
