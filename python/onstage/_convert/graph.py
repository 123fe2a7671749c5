"""The ONNX graph: what a converter makes, between the inputs and outputs that clients see."""

from __future__ import annotations

import math
from typing import Any

from onstage._convert import converters
from onstage._convert.layout import FLOATS, Column, Layout
from onstage._convert.original import Original
from onstage.errors import ConversionError

# Old enough for every engine.
OPSETS = {"": 17, "ai.onnx.ml": 3}
# What a missing text becomes on its way through MLflow, in JSON and Parquet, and in CSV.
MISSING = ("None", "nan")
# What protobuf can hold.
LARGEST = 2**31 - 1


class Builder:
    """Nodes in the order of their use, each with a name of its own."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: list[str], domain: str = "", output: str = "", **attributes: Any) -> str:
        """Adds a node; gives the name of its only output."""
        import onnx

        name = output or f"{self.prefix}/{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def constant(self, values: Any) -> str:
        """Adds a constant; gives its name."""
        import onnx

        name = f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name


def build(original: Original, layout: Layout, attempt: converters.Attempt, name: str) -> Any:
    """The whole graph of a model. Raises `ConversionError` where a converter does not know the model."""
    import onnx

    core = converters.convert(original, layout, attempt)
    taken = [column.name for column in layout.columns]
    core = tidy(onnx.compose.add_prefix(core, f"{unlike(taken, 'model')}/"))
    before, after = Builder(unlike(taken, "before")), Builder(unlike(taken, "after"))
    inputs = lead_in(layout, core, attempt, before, original.names or [])
    outputs = lead_out(original, layout, core, after, attempt)
    prepare = [*before.nodes, *core.graph.node, *after.nodes]
    graph = onnx.helper.make_graph(prepare, name, inputs, outputs, [*core.graph.initializer, *before.constants, *after.constants])
    opsets = {opset.domain: opset.version for opset in core.opset_import}
    # What the converters write in older sets of ai.onnx.ml means the same in this one.
    opsets = {"": OPSETS[""], **opsets, "ai.onnx.ml": max(opsets.get("ai.onnx.ml", 0), OPSETS["ai.onnx.ml"])}
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid(*opset) for opset in sorted(opsets.items())],
        ir_version=min(core.ir_version or 8, 10),
        producer_name="onstage",
        functions=list(core.functions),
    )
    if model.ByteSize() > LARGEST:
        raise ConversionError(
            f"the graph takes {model.ByteSize() / 2**30:.1f} GiB, more than the 2 GiB that an ONNX file can hold",
            "train a smaller model: fewer or shallower trees",
        )
    return model


def unlike(taken: list[str], name: str) -> str:
    """A name that no name of `taken` begins with."""
    while any(each.startswith(name) for each in taken):
        name = f"{name}_"
    return name


def free(layout: Layout, *names: str) -> str:
    """The first of the names, by which the server knows an output, that no input has."""
    taken = [column.name for column in layout.columns]
    return next((name for name in names if name not in taken), f"{names[0]}_of_model")


def lead_in(layout: Layout, core: Any, attempt: converters.Attempt, builder: Builder, names: list[str]) -> list[Any]:
    """The inputs of clients, and the nodes that make the converter's inputs of them."""
    import onnx

    inner = list(core.graph.input)
    if layout.inner == "tensor":
        value = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", *layout.shape])
        builder.add("Identity", ["input"], output=inner[0].name)
        return [value]
    values, parts = [], []
    if layout.packed:
        kind = layout.columns[0].kind
        name = layout.columns[0].name if layout.named and len(layout.columns) == 1 else "features"
        shape: list[Any] = ["batch", len(layout.columns)]
        if layout.style == "tensor" and len(layout.tensor.shape) == 1:
            shape = ["batch"]
        values.append(onnx.helper.make_tensor_value_info(name, element(kind, layout), shape))
        if kind == "string" and layout.inner != "text" and not attempt.categories:
            name = without_missing(name, attempt.words, builder)
        parts = [(name, kind)]
    else:
        for at, column in enumerate(layout.columns):
            values.append(onnx.helper.make_tensor_value_info(column.name, element(column.kind, layout), ["batch"]))
            wide = builder.add("Reshape", [column.name, builder.constant(integers([-1, 1]))])
            if column.kind == "string" and at not in attempt.categories:
                wide = without_missing(wide, attempt.words, builder)
            parts.append((wide, column.kind))
    if layout.inner == "columns":
        lead_columns(names, parts, inner, builder)
    elif layout.inner == "text":
        rows = builder.add("Reshape", [parts[0][0], builder.constant(integers([-1]))])
        builder.add("Identity", [rows], output=inner[0].name)
    else:
        lead_matrix(layout, parts, inner[0], attempt, builder)
    return values


def without_missing(name: str, words: frozenset[str], builder: Builder) -> str:
    """A missing text as the empty one: MLflow, and a server that answers alike, say `None` or `nan` to the graph."""
    import numpy as np

    wanted = [word for word in MISSING if word not in words]
    if not wanted:
        return name
    codes = builder.add(
        "LabelEncoder", [name], domain="ai.onnx.ml", keys_strings=wanted, values_int64s=[1] * len(wanted), default_int64=0
    )
    missing = builder.add("Equal", [codes, builder.constant(integers(1))])
    return builder.add("Where", [missing, builder.constant(np.array("", object)), name])


def integers(values: int | list[int]) -> Any:
    """Whole numbers, or one, as a constant."""
    import numpy as np

    return np.array(values, np.int64)


def element(kind: str, layout: Layout) -> int:
    """The type of a client's input. MLflow makes float32 of float64 where the graph asks for it, and nothing else."""
    import onnx

    tensor = onnx.TensorProto
    if layout.style == "tensor" and kind in ("long", "double", "boolean"):
        found = onnx.helper.np_dtype_to_tensor_dtype(layout.tensor.type)
        return int(tensor.FLOAT if found == tensor.DOUBLE else found)
    types = {"long": tensor.INT64, "integer": tensor.INT32, "boolean": tensor.BOOL, "string": tensor.STRING}
    return int(types.get(kind, tensor.FLOAT))


def lead_columns(names: list[str], parts: list[tuple[str, str]], inner: list[Any], builder: Builder) -> None:
    """Each column to the converter's input, in the type that it wants; the converter may have renamed it."""
    if len(inner) != len(names):
        raise ConversionError(f"the converter's graph has {len(inner)} inputs, expected {len(names)}")
    if len(parts) < len(names):
        whole, kind = parts[0]
        parts = [(builder.add("Gather", [whole, builder.constant(integers([at]))], axis=1), kind) for at in range(len(names))]
    for (name, kind), value in zip(parts, inner, strict=True):
        to = value.type.tensor_type.elem_type
        builder.add(
            "Identity" if kind == "string" else "Cast",
            [name],
            output=value.name,
            **({} if kind == "string" else {"to": to}),
        )


def lead_matrix(layout: Layout, parts: list[tuple[str, str]], inner: Any, attempt: converters.Attempt, builder: Builder) -> None:
    """All columns side by side in one matrix."""
    import onnx

    to = inner.type.tensor_type.elem_type
    wide = []
    for at, (name, _) in enumerate(parts):
        known = attempt.categories.get(at) if len(parts) == len(layout.columns) else None
        source = encode(name, layout.columns[at], known, builder) if known else name
        wide.append(source if to == onnx.TensorProto.STRING else builder.add("Cast", [source], to=to))
    whole = wide[0] if len(wide) == 1 else builder.add("Concat", wide, axis=1)
    if attempt.zero_is_missing:
        whole = zeros_to_nan(whole, to, builder)
    builder.add("Identity", [whole], output=inner.name)


def zeros_to_nan(name: str, kind: int, builder: Builder) -> str:
    """Zeros as missing values, with LightGBM's measure of what is zero."""
    import numpy as np
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    zero = builder.add("LessOrEqual", [builder.add("Abs", [name]), builder.constant(np.array(1e-35, dtype))])
    return builder.add("Where", [zero, builder.constant(np.array(np.nan, dtype)), name])


def encode(name: str, column: Column, known: list[Any], builder: Builder) -> str:
    """The code of each category as pandas counts them; NaN for others, which LightGBM sends right."""
    keys: dict[str, Any]
    if column.kind == "string":
        keys = {"keys_strings": [str(value) for value in known]}
    elif column.kind in FLOATS:
        keys = {"keys_floats": [float(value) for value in known]}
    else:
        import onnx

        name = builder.add("Cast", [name], to=onnx.TensorProto.INT64)
        keys = {"keys_int64s": [int(value) for value in known]}
    codes = [float(code) for code in range(len(known))]
    return builder.add("LabelEncoder", [name], domain="ai.onnx.ml", values_floats=codes, default_float=math.nan, **keys)


def lead_out(original: Original, layout: Layout, core: Any, builder: Builder, attempt: converters.Attempt) -> list[Any]:
    """The nodes that give the converter's outputs the names and forms that clients see, and those outputs."""
    import onnx

    tensor = onnx.TensorProto
    found = [value.name for value in core.graph.output]
    if original.targets > 1 and layout.style == "columns":
        return targets(original, layout, found[0], builder)
    if original.kind in ("regressor", "tensor"):
        name = free(layout, "prediction", "output_prediction") if original.kind == "regressor" else "output"
        builder.add("Cast", [found[0]], to=tensor.FLOAT, output=name)
        width = core.graph.output[0].type.tensor_type.shape.dim[1:]
        shape = [dim.dim_value or dim.dim_param or None for dim in width] if original.kind == "tensor" else [None]
        return [onnx.helper.make_tensor_value_info(name, tensor.FLOAT, ["batch", *shape])]
    label = core.graph.output[0].type.tensor_type.elem_type
    name = free(layout, "label", "output_label")
    if attempt.label_of_probabilities:
        place = place_of_largest(found[1], core.graph.output[1].type.tensor_type.elem_type, builder)
        builder.add("Gather", [builder.constant(classes_of(original, label)), place], output=name)
    else:
        builder.add("Reshape", [found[0], builder.constant(integers([-1]))], output=name)
    outputs = [onnx.helper.make_tensor_value_info(name, label, ["batch"])]
    if original.kind == "outlier":
        flat = builder.add("Reshape", [found[1], builder.constant(integers([-1]))])
        scores = builder.add("Cast", [flat], to=tensor.FLOAT, output=free(layout, "scores", "output_scores"))
        outputs.append(onnx.helper.make_tensor_value_info(scores, tensor.FLOAT, ["batch"]))
    elif original.probabilistic:
        outputs.append(probabilities(original, layout, found[1], builder))
    return outputs


def targets(original: Original, layout: Layout, name: str, builder: Builder) -> list[Any]:
    """An output for each target: of a matrix, MLflow would make more rows than were sent."""
    import onnx

    outputs = []
    for number in range(original.targets):
        one = builder.add("Gather", [name, builder.constant(integers(number))], axis=1)
        target = free(layout, f"prediction_{number}", f"output_prediction_{number}")
        builder.add("Cast", [one], to=onnx.TensorProto.FLOAT, output=target)
        outputs.append(onnx.helper.make_tensor_value_info(target, onnx.TensorProto.FLOAT, ["batch"]))
    return outputs


def place_of_largest(name: str, kind: int, builder: Builder) -> str:
    """The place of the largest probability, to the sixth digit, and of equals the first."""
    import numpy as np
    import onnx

    million = builder.constant(np.array(1e6, onnx.helper.tensor_dtype_to_np_dtype(kind)))
    rounded = builder.add("Round", [builder.add("Mul", [name, million])])
    return builder.add("ArgMax", [rounded], axis=1, keepdims=0)


def classes_of(original: Original, label: int) -> Any:
    """The classes, in the type of the labels."""
    import numpy as np
    import onnx

    classes = np.array(original.classes)
    if label == onnx.TensorProto.STRING:
        return classes.astype(str).astype(object)
    return classes.astype(onnx.helper.tensor_dtype_to_np_dtype(label))


def probabilities(original: Original, layout: Layout, name: str, builder: Builder) -> Any:
    """One map for each row under columns, where MLflow fails at a matrix; else a matrix."""
    import numpy as np
    import onnx

    tensor = onnx.TensorProto
    classes = [value.item() if isinstance(value, np.generic) else value for value in original.classes or []]
    output = free(layout, "probabilities", "output_probability", "probability")
    if layout.style == "tensor":
        builder.add("Cast", [name], to=tensor.FLOAT, output=output)
        return onnx.helper.make_tensor_value_info(output, tensor.FLOAT, ["batch", len(classes)])
    matrix = builder.add("Cast", [name], to=tensor.FLOAT)
    whole = all(isinstance(value, (int, bool)) or (isinstance(value, float) and value.is_integer()) for value in classes)
    key = tensor.INT64 if whole else tensor.STRING
    keys = {"classlabels_int64s": [int(v) for v in classes]} if whole else {"classlabels_strings": list(map(str, classes))}
    builder.add("ZipMap", [matrix], domain="ai.onnx.ml", output=output, **keys)
    row = onnx.helper.make_map_type_proto(key, onnx.helper.make_tensor_type_proto(tensor.FLOAT, []))
    return onnx.helper.make_value_info(output, onnx.helper.make_sequence_type_proto(row))


def tidy(model: Any) -> Any:
    """Makes a converter's graph fit for engines: each operator set once and in order, a locale that every system has."""
    import onnx

    opsets = {opset.domain: opset.version for opset in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*opset) for opset in sorted(opsets.items()))
    nodes = model.graph.node
    words = [item for node in nodes if node.op_type == "TfIdfVectorizer" for item in node.attribute if item.strings]
    plain = all(word.isascii() for item in words for word in item.strings)
    for node in nodes:
        if node.op_type == "StringNormalizer" and not any(item.name == "locale" for item in node.attribute):
            # Lower-casing asks for en_US.UTF-8 unless told otherwise: small systems and containers do not have it.
            node.attribute.add(name="locale", type="STRING").s = b"C" if plain else b"C.UTF-8"
    return model


def feeds(layout: Layout, frame: Any) -> dict[str, Any]:
    """The rows as the graph takes them, as MLflow would make them of a request."""
    import numpy as np

    if layout.inner == "tensor":
        array = frame if isinstance(frame, np.ndarray) else frame.to_numpy(np.float32)
        return {"input": array.astype(np.float32)}

    def typed(values: Any, kind: str) -> Any:
        if kind == "string":
            return np.array([MISSING[row % 2] if value != value else value for row, value in enumerate(values)], object)
        return values.astype(np.float32 if kind in FLOATS else Column("", kind).dtype)

    if not layout.packed:
        return {c.name: typed(frame.iloc[:, at].to_numpy(), c.kind) for at, c in enumerate(layout.columns)}
    first = layout.columns[0]
    name = first.name if layout.named and len(layout.columns) == 1 else "features"
    rows = frame.to_numpy(object if first.kind == "string" else None)
    rows = np.stack([typed(rows[:, at], first.kind) for at in range(rows.shape[1])], axis=1)
    if layout.style == "tensor":
        if first.kind == "long":
            rows = rows.astype(layout.tensor.type)
        if len(layout.tensor.shape) == 1:
            rows = rows[:, 0]
    return {name: rows}
