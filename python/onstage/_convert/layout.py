"""The form in which clients send rows, and the one in which the graph of the converter takes them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from onstage._convert.original import Original, has_column_transformer
from onstage.errors import ConversionError

# The types of MLflow's columns that a graph can take.
KINDS = ("double", "float", "long", "integer", "boolean", "string")
FLOATS = ("double", "float")


@dataclass
class Column:
    """One column of the requests: the name that clients use, and MLflow's name of its type."""

    name: str
    kind: str
    optional: bool = False

    @property
    def dtype(self) -> Any:
        """The type of the rows that the library sees."""
        types = {"long": "int64", "integer": "int32", "boolean": "bool", "string": "object", "float": "float32"}
        return types.get(self.kind, "float64")


@dataclass
class Layout:
    """How rows reach the graph.

    `columns`: one input for each column under a column signature, or one matrix where all are floating-point numbers;
    `tensor`: one matrix under a tensor signature. `inner` is what the converter's graph takes: one `matrix`, its own
    `columns`, or a list of `text`.
    """

    style: str
    inner: str
    columns: list[Column]
    named: bool = True
    tensor: Any = None  # the type of MLflow's tensor
    shape: tuple[int, ...] = ()  # of one row, for PyTorch
    notes: list[str] = field(default_factory=list)

    @property
    def packed(self) -> bool:
        """Whether one input holds all columns."""
        return self.style == "tensor" or len(self.columns) == 1 or all(c.kind in FLOATS for c in self.columns)

    def frame(self, data: Any) -> Any:
        """Any table or array as a frame of these columns, in the types that the library gets."""
        import numpy as np
        import pandas as pd

        if isinstance(data, dict):
            data = pd.DataFrame(data)
        if isinstance(data, pd.Series):
            data = data.to_frame()
        if not isinstance(data, pd.DataFrame):
            array = np.asarray(data)
            array = array.reshape(len(array), -1) if array.ndim != 1 or len(self.columns) == 1 else array.reshape(1, -1)
            data = pd.DataFrame(array)
        picked = self._pick(data)
        found = {column.name: self._typed(picked.iloc[:, at], column) for at, column in enumerate(self.columns)}
        return pd.DataFrame(found).reset_index(drop=True)

    def _pick(self, frame: Any) -> Any:
        by_name = {str(name): name for name in frame}
        # LightGBM writes `_` where a name has a space.
        plain = {str(name).replace(" ", "_"): name for name in frame}
        wanted = [by_name.get(c.name, plain.get(c.name.replace(" ", "_"))) for c in self.columns]
        if all(name is not None for name in wanted):
            return frame[wanted]
        numbered = isinstance(frame.columns[0], int) or not self.named
        if len(frame.columns) == len(self.columns) and (numbered or len(self.columns) == 1):
            return frame
        if numbered or not self.named:
            raise ConversionError(
                f"the data have {len(frame.columns)} columns, the model takes {len(self.columns)}",
                "leave out the target and other columns that are no features",
            )
        missing = [c.name for c, name in zip(self.columns, wanted, strict=True) if name is None]
        raise ConversionError(
            f"the data lack the columns {', '.join(f'`{name}`' for name in missing)}",
            f"the model takes {', '.join(f'`{c.name}`' for c in self.columns)}",
        )

    def _typed(self, values: Any, column: Column) -> Any:
        import numpy as np

        values = values.astype(object) if isinstance(values.dtype, _categorical()) else values
        if column.kind == "string":
            if not all(isinstance(value, (str, type(None))) or value != value for value in values):
                raise contradiction(column, values, "text")
            return values.astype(object).where(values.notna(), np.nan)
        try:
            return values.astype(column.dtype)
        except (TypeError, ValueError) as cause:
            raise contradiction(column, values, "numbers" if values.notna().all() else "no missing values") from cause


def contradiction(column: Column, values: Any, wanted: str) -> ConversionError:
    """The error for data that are not of the signature's type."""
    odd = next((value for value in values if isinstance(value, str) != (wanted == "text")), values.iloc[0])
    if wanted == "no missing values":
        odd = None
    return ConversionError(
        f"the signature says that column `{column.name}` is `{column.kind}`, but the data have `{odd}`",
        f"expected {wanted}: log the model with a signature of the data that it takes "
        "(`mlflow.models.infer_signature`), whole numbers with missing values as floating-point numbers",
    )


def _categorical() -> Any:
    import pandas as pd

    return pd.CategoricalDtype


def plan(original: Original, signature: Any, sample: Any) -> Layout:
    """The layout for a model by its signature, or where it has none by the sample and the model's own names."""
    if original.kind == "tensor":
        return plan_torch(signature, sample)
    given = signature.inputs if signature is not None else None
    if given is not None and given.is_tensor_spec():
        found = plan_tensor(original, given)
    elif given is not None:
        found = Layout("columns", "", [column(spec) for spec in given.inputs], given.has_input_names())
    else:
        found = plan_sample(original, sample)
    check_width(original, found)
    found.inner = inner(original, found)
    if original.categories:
        check_categories(original, found)
    return found


def column(spec: Any) -> Column:
    """A column of a signature, in a type that a graph can take."""
    kind = getattr(spec.type, "name", None)
    named = f"column `{spec.name}`" if spec.name else "the column"
    if kind in KINDS:
        return Column(spec.name or "", kind, not getattr(spec, "required", True))
    hint = "expected numbers, booleans or texts: flatten it into such columns before the model"
    if kind == "datetime":
        hint = "turn it into numbers before the model, such as its year, weekday and hour: no graph takes dates"
    raise ConversionError(f"{named} has the type `{spec.type}`, which a graph cannot take", hint)


def plan_tensor(original: Original, schema: Any) -> Layout:
    """One tensor of rows, as a model gets it that was logged with an array."""
    if len(schema.inputs) != 1 or len(schema.inputs[0].shape) > 2:
        raise ConversionError(
            f"the signature has the tensors {schema}, expected one of the shape (-1, n)",
            "log the model with a frame or with one array",
        )
    (spec,) = schema.inputs
    width = spec.shape[1] if len(spec.shape) == 2 and spec.shape[1] > 0 else original.width or 1
    kind = {"U": "string", "S": "string", "O": "string", "b": "boolean", "i": "long", "u": "long"}.get(spec.type.kind, "double")
    names = original.names if original.names and len(original.names) == width else [str(n) for n in range(width)]
    return Layout("tensor", "", [Column(name, kind) for name in names], False, spec)


def plan_sample(original: Original, sample: Any) -> Layout:
    """Columns for a frame and for a model with names, one tensor for an array."""
    import pandas as pd

    if sample is None:
        if not original.names:
            raise ConversionError(
                "the model has neither a signature nor an example nor names of its features",
                "give rows that it can predict: `data=`, or `--data FILE.parquet`",
            )
        return Layout("columns", "", [Column(name, "double") for name in original.names])
    if isinstance(sample, pd.Series):
        sample = sample.to_frame(sample.name or "text")
    if isinstance(sample, pd.DataFrame) or original.names:
        if not isinstance(sample, pd.DataFrame):
            sample = pd.DataFrame(sample, columns=original.names)
        return Layout("columns", "", [of_values(sample[name]) for name in pick_names(original, sample)])
    import numpy as np
    from mlflow.types import TensorSpec

    array = np.asarray(sample)
    if array.ndim != 2 and not original.text:
        raise ConversionError(f"the data have the shape {list(array.shape)}, expected [rows, columns]")
    kind = "string" if array.dtype.kind in "UO" else "double"
    width = 1 if array.ndim == 1 else array.shape[1]
    dtype = np.dtype("str") if kind == "string" else np.dtype("float32")
    spec = TensorSpec(dtype, (-1, *array.shape[1:]))
    return Layout("tensor", "", [Column(str(n), kind) for n in range(width)], False, spec)


def pick_names(original: Original, frame: Any) -> list[Any]:
    """The names of the sample's columns that the model takes; others, such as the target, are left out."""
    if not original.names:
        return list(frame)
    plain = {str(name).replace(" ", "_"): name for name in frame}
    found = [plain.get(name.replace(" ", "_")) for name in original.names]
    missing = [name for name, there in zip(original.names, found, strict=True) if there is None]
    if missing:
        raise ConversionError(
            f"the data lack the columns {', '.join(f'`{name}`' for name in missing)}",
            f"the model was trained on {', '.join(original.names)}",
        )
    return found


def of_values(values: Any) -> Column:
    """The column that holds such values."""
    from pandas.api import types

    dtype = values.cat.categories.dtype if isinstance(values.dtype, _categorical()) else values.dtype
    name = str(values.name)
    if types.is_bool_dtype(dtype):
        return Column(name, "boolean")
    if types.is_integer_dtype(dtype):
        # Whole numbers of pandas' own type may be missing.
        return Column(name, "double" if values.isna().any() else "long")
    if types.is_float_dtype(dtype):
        return Column(name, "double")
    if types.is_datetime64_any_dtype(dtype):
        raise ConversionError(
            f"column `{name}` holds dates, which a graph cannot take",
            "turn it into numbers before the model, such as its year, weekday and hour",
        )
    return Column(name, "string")


def plan_torch(signature: Any, sample: Any) -> Layout:
    """One tensor of float32 numbers, as the example or the signature has it."""
    import numpy as np
    from mlflow.types import TensorSpec

    if signature is not None and signature.inputs is not None and signature.inputs.is_tensor_spec():
        shape = tuple(signature.inputs.inputs[0].shape[1:])
    elif sample is not None:
        shape = np.asarray(sample).shape[1:]
    else:
        raise ConversionError("the module has neither a signature nor an example", "give an array that it can take: `data=`")
    spec = TensorSpec(np.dtype("float32"), (-1, *shape))
    return Layout("tensor", "tensor", [Column("input", "float")], False, spec, shape)


def check_width(original: Original, layout: Layout) -> None:
    """Stops where signature and model are not about the same columns."""
    if original.width is not None and not original.text and original.width != len(layout.columns):
        raise ConversionError(
            f"the signature has {len(layout.columns)} columns, the model was trained on {original.width}",
            "log the model with a signature of the data that it takes, without the target",
        )
    if original.text and len(layout.columns) != 1:
        raise ConversionError(f"a text model takes one column, found {len(layout.columns)}", "keep only the texts in the data")
    plain = [name.replace(" ", "_") for name in original.names or []]
    names = [column.name.replace(" ", "_") for column in layout.columns]
    if layout.named and plain and plain != names:
        if sorted(plain) != sorted(names):
            raise ConversionError(
                f"the signature has the columns {', '.join(names)}, the model was trained on {', '.join(plain)}",
                "log the model with a signature of the data that it takes",
            )
        order = {name: at for at, name in enumerate(plain)}
        layout.columns.sort(key=lambda column: order[column.name.replace(" ", "_")])


def check_categories(original: Original, layout: Layout) -> None:
    """Gives columns of categories the type of their categories."""
    for number, known in original.categories.items():
        texts = all(isinstance(value, str) for value in known)
        kind = layout.columns[number].kind
        if texts and kind != "string":
            raise ConversionError(
                f"column `{layout.columns[number].name}` holds the categories {known[:3]}…, but the signature says `{kind}`",
                "log the model with a signature of the data that it takes",
            )
        if not texts and kind == "string":
            layout.columns[number] = replace(layout.columns[number], kind="long")


def inner(original: Original, layout: Layout) -> str:
    """What the converter's graph takes."""
    if original.text:
        return "text"
    texts = {column.kind == "string" for column in layout.columns}
    if original.categories:
        return "matrix"
    if len(texts) == 2 or (original.names and has_column_transformer(original.model)):
        if not original.names:
            raise ConversionError(
                "the model was fitted without names of columns, but the data hold texts and numbers",
                "fit it on a DataFrame",
            )
        return "columns"
    return "matrix"
