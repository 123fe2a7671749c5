"""`TransformedTargetRegressor`: the regressor inside, and what turns its numbers back into those of the target."""

from __future__ import annotations

from typing import Any

from onstage.errors import ConversionError

# numpy's functions as operators, each with its second operand.
FUNCTIONS: dict[str, list[tuple[str, float | None]]] = {
    "exp": [("Exp", None)],
    "expm1": [("Exp", None), ("Sub", 1.0)],
    "exp2": [("Mul", 0.6931471805599453), ("Exp", None)],
    "log": [("Log", None)],
    "log1p": [("Add", 1.0), ("Log", None)],
    "sqrt": [("Sqrt", None)],
    "square": [("Pow", 2.0)],
    "reciprocal": [("Reciprocal", None)],
    "negative": [("Neg", None)],
}
Operators = list[tuple[str, Any]]


def peeled(model: Any) -> tuple[Any, Operators]:
    """The model without a transformation of its target, and the operators that undo it; the same model without one."""
    if type(model).__name__ == "TransformedTargetRegressor":
        return model.regressor_, operators(model.transformer_)
    if hasattr(model, "steps") and type(model.steps[-1][1]).__name__ == "TransformedTargetRegressor":
        from sklearn.pipeline import Pipeline

        name, last = model.steps[-1]
        return Pipeline([*model.steps[:-1], (name, last.regressor_)]), operators(last.transformer_)
    return model, []


def operators(transformer: Any) -> Operators:
    """What undoes a transformation of the target."""
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        inverse = transformer.inverse_func
        known = FUNCTIONS.get(getattr(inverse, "__name__", "")) if type(inverse).__name__ == "ufunc" else None
        if inverse is None:
            return []
        if known is not None:
            return list(known)
        name = getattr(inverse, "__qualname__", "?")
        raise ConversionError(
            f"the target is turned back by the Python function `{name}`, which no graph can hold",
            f"use a function of numpy: {', '.join(FUNCTIONS)}",
        )
    if kind in ("StandardScaler", "RobustScaler"):
        middle = transformer.mean_ if kind == "StandardScaler" else transformer.center_
        both = [("Mul", transformer.scale_), ("Add", middle)]
        # Left out: a scaler that does not scale, or does not move.
        return [(operator, operand) for operator, operand in both if operand is not None]
    if kind == "MinMaxScaler":
        return [("Sub", transformer.min_), ("Div", transformer.scale_)]
    if kind == "MaxAbsScaler":
        return [("Mul", transformer.scale_)]
    raise ConversionError(
        f"the target is transformed by a `{kind}`, which no converter can turn back",
        "transform it by a function of numpy, or by a scaler of scikit-learn",
    )


def followed(model: Any, wanted: Operators) -> Any:
    """The graph with the operators behind its first output."""
    import numpy as np
    import onnx

    if not wanted:
        return model
    out = model.graph.output[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(out.type.tensor_type.elem_type)
    name = out.name
    for number, (kind, operand) in enumerate(wanted):
        inputs = [name]
        if operand is not None:
            constant = onnx.numpy_helper.from_array(np.asarray(operand, dtype), f"target_{number}/operand")
            model.graph.initializer.append(constant)
            inputs.append(constant.name)
        name = f"target_{number}"
        model.graph.node.append(onnx.helper.make_node(kind, inputs, [name]))
    value = onnx.helper.make_tensor_value_info(name, out.type.tensor_type.elem_type, [None, None])
    del model.graph.output[:]
    model.graph.output.append(value)
    return model
