"""A converter for `SimpleImputer`: in float64, with indicators, and for texts, none of which skl2onnx 1.20 knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

NAME = "SklearnSimpleImputer"


def kept(imputer: Any) -> list[int]:
    """The columns that are not left out for having been empty at the training."""
    if getattr(imputer, "keep_empty_features", False):
        return list(range(len(imputer.statistics_)))
    return [at for at, value in enumerate(imputer.statistics_) if value == value and value is not None]


def shapes(operator: Any) -> None:
    """The type and the width of what comes out."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    imputer = operator.raw_operator
    kinds = {type(value.type) for value in operator.inputs}
    kind = next((kind for kind in (StringTensorType, DoubleTensorType) if kind in kinds), FloatTensorType)
    width = len(kept(imputer)) + (len(imputer.indicator_.features_) if imputer.add_indicator else 0)
    operator.outputs[0].type = kind([operator.inputs[0].type.shape[0], width])


def converter(scope: Any, operator: Any, container: Any) -> None:
    """Writes the nodes."""
    import numpy as np
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
    from skl2onnx.operator_converters.common import concatenate_variables

    imputer = operator.raw_operator
    texts = isinstance(operator.outputs[0].type, StringTensorType)
    double = isinstance(operator.outputs[0].type, DoubleTensorType)
    number = TensorProto.DOUBLE if double else TensorProto.FLOAT

    def add(kind: str, inputs: list[str], output: str | None = None, domain: str = "", version: int = 13, **more: Any) -> str:
        name = output or scope.get_unique_variable_name(kind.lower())
        container.add_node(
            kind,
            inputs,
            [name],
            op_domain=domain,
            op_version=version,
            name=scope.get_unique_operator_name(kind),
            **more,
        )
        return str(name)

    def constant(kind: int, shape: list[int], values: list[Any]) -> str:
        name = scope.get_unique_variable_name("known")
        container.add_initializer(name, kind, shape, values)
        return str(name)

    def columns(name: str, numbers: Any) -> str:
        picked = [int(at) for at in numbers]
        return add("Gather", [name, constant(TensorProto.INT64, [len(picked)], picked)], axis=1)

    rows = concatenate_variables(scope, operator.inputs, container)
    rows = rows[0] if isinstance(rows, list) else rows
    width = len(imputer.statistics_)
    if texts:
        # A missing text is the empty text.
        blank = imputer.missing_values if isinstance(imputer.missing_values, str) else ""
        codes = add("LabelEncoder", [rows], None, "ai.onnx.ml", 2, keys_strings=[blank], values_int64s=[1], default_int64=0)
        missing = add("Cast", [codes], to=TensorProto.BOOL)
        known = constant(TensorProto.STRING, [1, width], [str(value).encode() for value in imputer.statistics_])
    else:
        rows = add("Cast", [rows], to=number)
        wanted = imputer.missing_values
        if wanted is None or wanted != wanted:
            missing = add("IsNaN", [rows])
        else:
            missing = add("Equal", [rows, constant(number, [1], [float(wanted)])])
        # A column that was empty at the training has no statistic, and is left out below or filled with 0.
        values = np.nan_to_num(np.asarray(imputer.statistics_, dtype=float))
        known = constant(number, [1, width], values.tolist())
    filled = columns(add("Where", [missing, known, rows]), kept(imputer))
    if imputer.add_indicator and not texts:
        flags = add("Cast", [columns(missing, imputer.indicator_.features_)], to=number)
        filled = add("Concat", [filled, flags], axis=1)
    add("Identity", [filled], operator.outputs[0].full_name)


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Puts this converter in the place of skl2onnx's own while it runs."""
    from skl2onnx.common import _registration

    before = _registration._converter_pool[NAME], _registration._shape_calculator_pool[NAME]
    _registration._converter_pool[NAME] = type(before[0])(converter, {})
    _registration._shape_calculator_pool[NAME] = shapes
    try:
        yield
    finally:
        _registration._converter_pool[NAME], _registration._shape_calculator_pool[NAME] = before
