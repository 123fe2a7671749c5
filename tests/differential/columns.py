"""Packages with rare signatures, and the requests whose answers are recorded: nested columns, dates and bytes, unnamed columns,
object parameters, manifests of MLflow 1."""

from dataclasses import dataclass

import mlflow
import onnx
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Map, Object, Property
from packages import F32, echo, reduce

DOUBLE, LONG, STRING, FLOAT = DataType.double, DataType.long, DataType.string, DataType.float
PAIR = [ColSpec(FLOAT, "x"), ColSpec(FLOAT, "y")]
POINT = Object([Property("lat", DOUBLE), Property("lon", DOUBLE), Property("name", STRING, False)])
TRACK = Object([Property("points", Array(POINT)), Property("tags", Map(STRING), False)])


@dataclass
class Package:
    name: str
    category: str
    graph: object
    inputs: list | None
    requests: list
    params: list | None = None
    manifest: str | None = None


def pair():
    return echo(("x", F32, ["n"]), ("y", F32, ["n"]))


def row(**values):
    return {"x": 1.5, "y": -2.0, **values}


def split(rows, **more):
    columns = list(rows[0])
    return {"dataframe_split": {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}, **more}


def forms(column, what, value, only=None):
    """One value of a column in each form of request."""
    one = row(**{column: value})
    lists = {name: [cell] for name, cell in one.items()}
    bodies = {
        "split": split([one, one]),
        "records": {"dataframe_records": [one, row()]},
        "inputs": {"inputs": one},
        "input_rows": {"inputs": [one, one]},
        "input_lists": {"inputs": lists},
        "instances": {"instances": [one, one]},
    }
    return [(f"{column}_{what}_{form}", body) for form, body in bodies.items() if only is None or form in only]


SHORT = ("split", "input_rows", "inputs")
KINDS = {
    "ad": Array(DOUBLE),
    "al": Array(LONG),
    "af": Array(FLOAT),
    "as": Array(STRING),
    "ab": Array(DataType.boolean),
    "at": Array(DataType.datetime),
    "ai": Array(DataType.binary),
    "aa": Array(Array(DOUBLE)),
    "ay": Array(AnyType()),
    "o": POINT,
    "t": TRACK,
    "m": Map(DOUBLE),
    "ml": Map(Array(LONG)),
    "any": AnyType(),
}
VALUES = {
    "ad": [("floats", [1.5, 2.0]), ("ints", [1, 2]), ("bits", [0, 1]), ("empty", []), ("null", None), ("text", "a"), ("number", 1.5),
           ("words", ["a"]), ("digits", ["1.5", 2.0]), ("nulls", [1.5, None]), ("nested", [[1.5]]), ("object", {"a": 1.5}), ("booleans", [True])],
    "al": [("ints", [1, 2]), ("floats", [1.5]), ("whole_floats", [1.0]), ("nulls", [1, None]), ("booleans", [True]), ("big", [2**63])],
    "af": [("floats", [1.5]), ("bits", [0, 1]), ("empty", [])],
    "as": [("texts", ["a", "b"]), ("ints", [1]), ("mixed", ["a", 1]), ("nulls", ["a", None]), ("nested", [["a"]])],
    "ab": [("booleans", [True, False]), ("ints", [1, 0]), ("nulls", [True, None])],
    "at": [("dates", ["2024-05-01"]), ("words", ["nope"]), ("empty", [])],
    "ai": [("texts", ["aGVsbG8="]), ("ints", [1])],
    "aa": [("floats", [[1.5], [2.0]]), ("ragged", [[1.5], [2.0, 2.5]]), ("flat", [1.5]), ("inner_null", [[1.5], None]), ("inner_text", [["a"]])],
    "ay": [("mixed", [1, "a", {"b": []}]), ("null", None), ("text", "a"), ("empty", [])],
    "o": [("right", {"lat": 1.5, "lon": 2.5}), ("optional", {"lat": 1.5, "lon": 2.5, "name": "a"}), ("missing", {"lat": 1.5}),
          ("unknown", {"lat": 1.5, "lon": 2.5, "alt": 1.0}), ("wrong_type", {"lat": "a", "lon": 2.5}), ("ints", {"lat": 5, "lon": 1}),
          ("null_property", {"lat": None, "lon": 2.5}), ("null_optional", {"lat": 1.5, "lon": 2.5, "name": None}),
          ("number_as_text", {"lat": 1.5, "lon": 2.5, "name": 5}), ("list", [1.5]), ("text", "a"), ("empty", {}), ("null", None)],
    "t": [("right", {"points": [{"lat": 1.5, "lon": 2.5}], "tags": {"a": "b"}}), ("deep_wrong", {"points": [{"lat": 1.5, "lon": []}]}),
          ("deep_missing", {"points": [{"lat": 1.5}]}), ("map_wrong", {"points": [], "tags": {"a": 1}}), ("no_list", {"points": {"lat": 1.5, "lon": 2.5}})],
    "m": [("right", {"a": 1.5}), ("ints", {"a": 2}), ("text", {"a": "b"}), ("empty", {}), ("null_value", {"a": None}), ("list", [1.5]), ("null", None)],
    "ml": [("right", {"a": [1, 2]}), ("wrong", {"a": [1.5]}), ("scalar", {"a": 1})],
    "any": [("text", "a"), ("number", 1), ("list", [1, "a", None]), ("words", ["a"]), ("object", {"a": 1}), ("null", None)],
}  # fmt: skip


def requests(column, only=None):
    return [request for what, value in VALUES[column] for request in forms(column, what, value, only)]


def optional_requests():
    plain = [("plain_split", split([row()])), ("plain_inputs", {"inputs": row()}), ("plain_lists", {"inputs": {"x": [1.0], "y": [2.0]}}),
             ("plain_rows", {"inputs": [row(), row()]}), ("plain_instances", {"instances": [row(), row()]})]  # fmt: skip
    return plain + [request for column in KINDS for request in requests(column, SHORT)]


def required(column):
    missing = [("missing_split", split([row()])), ("missing_inputs", {"inputs": row()})]
    return missing + requests(column)


def dates_and_bytes():
    good = {"t": "2024-05-01T12:00:00", "b": "aGVsbG8="}
    cells = [("t", "date", "2024-05-01"), ("t", "zone", "2024-05-01T12:00:00Z"), ("t", "words", "nope"), ("t", "number", 1714521600000000000), ("t", "null", None),
             ("t", "list", ["2024-05-01"]), ("t", "boolean", True), ("b", "padding", "aGVsbG8"), ("b", "number", 5), ("b", "null", None), ("b", "list", ["aGVsbG8="]), ("b", "alien", "aGV*sbG8="),
             ("b", "not_ascii", "é")]  # fmt: skip
    made = [("right_split", split([row(**good)])), ("right_inputs", {"inputs": row(**good)}), ("right_instances", {"instances": [row(**good)]}), ("missing", split([row()]))]
    for column, what, value in cells:
        one = row(**{**good, column: value})
        made += [(f"{column}_{what}_split", split([one])), (f"{column}_{what}_inputs", {"inputs": {name: [cell] for name, cell in one.items()}})]
    return made


def unnamed():
    data = [[1.0, 2.0], [3.5, 4.5]]
    return [
        ("split", {"dataframe_split": {"data": data}}),
        ("split_names", {"dataframe_split": {"columns": ["b", "a"], "data": data}}),
        ("split_more", {"dataframe_split": {"columns": ["b", "a", "c"], "data": [[*one, "x"] for one in data]}}),
        ("split_fewer", {"dataframe_split": {"data": [[1.0], [2.0]]}}),
        ("split_text", {"dataframe_split": {"data": [["1.5", "2"]]}}),
        ("split_words", {"dataframe_split": {"data": [["a", "b"]]}}),
        ("split_null", {"dataframe_split": {"data": [[1.0, None]]}}),
        ("records", {"dataframe_records": [{"q": 1.0, "p": 2.0}, {"q": 3.5, "p": 4.5}]}),
        ("inputs", {"inputs": data}),
        ("inputs_ints", {"inputs": [[1, 2], [3, 4]]}),
        ("inputs_row", {"inputs": [1.0, 2.0]}),
        ("inputs_more", {"inputs": [[1.0, 2.0, 3.0]]}),
        ("inputs_object", {"inputs": {"a": [1.0]}}),
        ("inputs_scalar", {"inputs": 1.0}),
        ("instances", {"instances": data}),
        ("instances_objects", {"instances": [{"a": 1.0, "b": 2.0}]}),
    ]


def object_params():
    good = {"lat": 1.5, "lon": 2.5}
    values = [("right", {"home": good}), ("optional", {"home": {**good, "name": "a"}}), ("missing", {"home": {"lat": 1.5}}), ("unknown", {"home": {**good, "alt": 1.0}}),
              ("wrong_type", {"home": {**good, "lat": "a"}}), ("ints", {"home": {"lat": 5, "lon": 1}}), ("null_property", {"home": {**good, "lat": None}}),
              ("list", {"home": [good]}), ("text", {"home": "a"}), ("null", {"home": None}), ("null_name", {"home": {**good, "name": None}}), ("number_name", {"home": {**good, "name": 5}}),
              ("track", {"track": {"points": [good], "tags": {"a": "b"}}}), ("track_wrong", {"track": {"points": [{"lat": 1.5}]}}), ("track_map", {"track": {"points": [good], "tags": {"a": 1}}}),
              ("unknown_param", {"other": 1}), ("none", {})]  # fmt: skip
    return [(what, split([row()], params=params)) for what, params in values]


V1_COLUMNS = """\
artifact_path: model
flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.10.1
  python_function:
    data: model.onnx
    env: conda.yaml
    loader_module: mlflow.onnx
    python_version: 3.8.10
run_id: 5d2f1c3a9be84f7f8a0e0c7c7f9d2c11
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  type: dataframe
signature:
  inputs: '[{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}]'
utc_time_created: '2021-09-14 09:31:06.224114'
"""
V1_NUMBERED = """\
flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.8.0
  python_function:
    data: model.onnx
    env: conda.yaml
    loader_module: mlflow.onnx
    python_version: 3.7.9
signature:
  inputs: '[{"name": 0, "type": "double"}, {"name": 1, "type": "double"}]'
  outputs: null
utc_time_created: '2020-12-01 10:00:00.000000'
"""
V1_TENSOR = """\
flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.10.1
  python_function:
    data: model.onnx
    env: conda.yaml
    loader_module: mlflow.onnx
    python_version: 3.8.10
model_uuid: 9f1d6a41d7c44ef7a3c1b9d7d0d0a1b2
mlflow_version: 1.30.0
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1]}}]'
utc_time_created: '2022-10-19 15:20:11.000000'
"""
EXAMPLE = '{"columns": ["a", "b"], "data": [[1.0, 2.0]]}'


def version_1():
    data = [[1.0, 2.0], [3.5, 4.5]]
    return [
        ("split", {"dataframe_split": {"columns": ["a", "b"], "data": data}}),
        ("split_numbers", {"dataframe_split": {"columns": [0, 1], "data": data}}),
        ("split_bare", {"dataframe_split": {"data": data}}),
        ("split_digits", {"dataframe_split": {"columns": ["0", "1"], "data": data}}),
        ("records", {"dataframe_records": [{"a": 1.0, "b": 2.0}]}),
        ("inputs", {"inputs": data}),
        ("instances", {"instances": [{"a": 1.0, "b": 2.0}, {"a": 3.5, "b": 4.5}]}),
        ("old_split", {"columns": ["a", "b"], "data": data}),
    ]


# Answers of MLflow that no client needs, by the end of their ids.
QUIRKS = {
    "t_list_inputs": "a list for a date may as well be refused while it is read",
    "ad_empty_input_lists": "a list in a list of numbers may as well be refused while it is read",
    "m_right_inputs": "a map beside scalars is one row; pandas makes a row of each of its keys",
    "nested_map.22_m_empty_inputs": "a map beside scalars is one row; pandas makes a row of each of its keys",
    "_null_inputs": "null may stand for an optional list",
    "_null_input_rows": "null may stand for an optional list",
    "v1_numbered.03_split_digits": "JSON cannot tell the names 0 and \"0\" of columns apart where they are keys",
}


OPTIONAL = [*PAIR, *(ColSpec(kind, name, False) for name, kind in KINDS.items())]
DATES = [*PAIR, ColSpec(DataType.datetime, "t"), ColSpec(DataType.binary, "b")]
MEAN = reduce("ReduceMean", True)
PACKAGES = [
    Package("nested_optional", "nested", pair(), OPTIONAL, optional_requests()),
    Package("nested_array", "nested", pair(), [*PAIR, ColSpec(KINDS["ad"], "ad")], required("ad")),
    Package("nested_object", "nested", pair(), [*PAIR, ColSpec(POINT, "o")], required("o")),
    Package("nested_map", "nested", pair(), [*PAIR, ColSpec(KINDS["m"], "m")], required("m")),
    Package("nested_any", "nested", pair(), [*PAIR, ColSpec(KINDS["any"], "any")], required("any")),
    Package("dates_and_bytes", "types", pair(), DATES, dates_and_bytes()),
    Package("unnamed_doubles", "unnamed", MEAN, [ColSpec(DOUBLE), ColSpec(DOUBLE)], unnamed()),
    Package("object_params", "params", pair(), PAIR, object_params(), [ParamSpec("home", POINT, {"lat": 1.0, "lon": 1.0}), ParamSpec("track", TRACK, {"points": []})]),
    Package("v1_columns", "mlflow1", MEAN, None, version_1(), manifest=V1_COLUMNS),
    Package("v1_numbered", "mlflow1", MEAN, None, version_1(), manifest=V1_NUMBERED),
    Package("v1_tensor", "mlflow1", MEAN, None, version_1(), manifest=V1_TENSOR),
]  # fmt: skip


def write(path, package):
    if path.exists():
        return
    if package.manifest:
        path.mkdir(parents=True)
        onnx.save(package.graph, path / "model.onnx")
        (path / "MLmodel").write_text(package.manifest)
        (path / "conda.yaml").write_text("channels: [conda-forge]\ndependencies: [python=3.8.10, pip, {pip: [mlflow, onnx, onnxruntime]}]\nname: mlflow-env\n")
        if "input_example" in package.manifest:
            (path / "input_example.json").write_text(EXAMPLE)
        return
    mlflow.onnx.save_model(
        package.graph,
        path,
        signature=ModelSignature(inputs=Schema(package.inputs), params=package.params and ParamSchema(package.params)),
        pip_requirements=["mlflow"],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
