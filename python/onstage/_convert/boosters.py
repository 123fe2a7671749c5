"""The estimators of the boosting libraries inside scikit-learn's pipelines: converters of our own, or mended ones."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from typing import Any

from onstage._convert import mends
from onstage._convert.original import library_of, steps
from onstage._extras import need

HISTOGRAM = "SklearnHistGradientBoostingRegressor"
# The losses whose numbers are exponents.
LOG_LINKED = ("poisson", "gamma")
OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


class Rewired:
    """An operator of skl2onnx with other variables at one of its ends."""

    def __init__(self, operator: Any, inputs: list[Any] | None = None, outputs: list[Any] | None = None) -> None:
        self._operator = operator
        self.inputs = operator.inputs if inputs is None else inputs
        self.outputs = operator.outputs if outputs is None else outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)

    @property
    def input_full_names(self) -> list[str]:
        """The names of the inputs."""
        return [value.full_name for value in self.inputs]

    @property
    def output_full_names(self) -> list[str]:
        """The names of the outputs."""
        return [value.full_name for value in self.outputs]


class Writer:
    """Adds plain nodes to a graph of skl2onnx."""

    def __init__(self, scope: Any, container: Any) -> None:
        self.scope, self.container = scope, container

    def add(self, kind: str, inputs: list[str], output: str | None = None) -> str:
        """Adds a node; gives the name of its output."""
        name = output or self.scope.get_unique_variable_name(kind.lower())
        self.container.add_node(kind, inputs, [name], op_version=13, name=self.scope.get_unique_operator_name(kind))
        return str(name)

    def constant(self, value: float) -> str:
        """Adds a float32 number; gives its name."""
        from onnx import TensorProto

        name = self.scope.get_unique_variable_name("known")
        self.container.add_initializer(name, TensorProto.FLOAT, [], [value])
        return str(name)


def register(model: Any) -> None:
    """Teaches skl2onnx the estimators of the boosting libraries in the model."""
    libraries = {library_of(step) for step in steps(model)}
    if "xgboost" in libraries:
        register_xgboost()
    if "lightgbm" in libraries:
        register_lightgbm()
    if "catboost" in libraries:
        register_catboost()


def shapes() -> tuple[Any, Any]:
    """How the outputs of classifiers and of regressors look."""
    from skl2onnx.common import shape_calculator as known

    return known.calculate_linear_classifier_output_shapes, known.calculate_linear_regressor_output_shapes


def register_xgboost() -> None:
    """XGBoost's, by onnxmltools."""
    from skl2onnx import update_registered_converter

    xgboost = need("xgboost", "xgboost")
    convert = need("onnxmltools.convert.xgboost.operator_converters.XGBoost", "xgboost").convert_xgboost
    classifier, regressor = shapes()

    def regression(scope: Any, operator: Any, container: Any) -> None:
        objective = str(operator.raw_operator.get_xgb_params().get("objective"))
        if objective in ("reg:logistic", "binary:logistic"):
            logistic(scope, operator, container, convert)
            return
        convert(scope, operator, container)
        targets = int(parameters(operator.raw_operator).get("num_target", 1))
        if targets > 1:
            share(container.nodes[-1], targets)

    for kind in (xgboost.XGBClassifier, xgboost.XGBRFClassifier):
        update_registered_converter(kind, f"Xgb{kind.__name__}", classifier, convert, options=OPTIONS)
    for kind in (xgboost.XGBRegressor, xgboost.XGBRFRegressor):
        update_registered_converter(kind, f"Xgb{kind.__name__}", regressor, regression)


def parameters(estimator: Any) -> dict[str, str]:
    """What XGBoost's model says of itself."""
    found: dict[str, str] = json.loads(estimator.get_booster().save_config())["learner"]["learner_model_param"]
    return found


def logistic(scope: Any, operator: Any, container: Any, convert: Any) -> None:
    """A regression of probabilities: the converter adds the base score as it is, and leaves the numbers as they are."""
    score = parameters(operator.raw_operator)["base_score"]
    base = float(json.loads(score)[0] if score.startswith("[") else score)
    out = operator.outputs[0]
    raw = scope.declare_local_variable("margin", out.type)
    convert(scope, Rewired(operator, outputs=[raw]), container)
    writer = Writer(scope, container)
    margin = writer.add("Add", [raw.full_name, writer.constant(math.log(base / (1 - base)) - base)])
    writer.add("Sigmoid", [margin], out.full_name)


def share(node: Any, targets: int) -> None:
    """Gives each tree the target that it is for, in turn: the converter gives all of them the first."""
    import onnx

    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    base = list(values["base_values"])
    values["n_targets"] = targets
    values["target_ids"] = [tree % targets for tree in values["target_treeids"]]
    values["base_values"] = base if len(base) == targets else base[:1] * targets
    del node.attribute[:]
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in values.items())


def register_lightgbm() -> None:
    """LightGBM's, by onnxmltools, which does not know that zeros may be missing values."""
    from skl2onnx import update_registered_converter

    lightgbm = need("lightgbm", "lightgbm")
    given = need("onnxmltools.convert.lightgbm.operator_converters.LightGbm", "lightgbm").convert_lightgbm
    classifier, regressor = shapes()

    def convert(scope: Any, operator: Any, container: Any) -> None:
        if not mends.zero_as_missing(operator.raw_operator):
            given(scope, operator, container)
            return
        writer = Writer(scope, container)
        value = scope.declare_local_variable("without_zeros", operator.inputs[0].type)
        rows = operator.inputs[0].full_name
        zero = writer.add("LessOrEqual", [writer.add("Abs", [rows]), writer.constant(1e-35)])
        writer.add("Where", [zero, writer.constant(float("nan")), rows], value.full_name)
        given(scope, Rewired(operator, inputs=[value]), container)

    update_registered_converter(lightgbm.LGBMClassifier, "LgbmClassifier", classifier, convert, options=OPTIONS)
    for kind in (lightgbm.LGBMRegressor, lightgbm.LGBMRanker):
        update_registered_converter(kind, f"Lgbm{kind.__name__}", regressor, convert, options={"split": None})


def register_catboost() -> None:
    """CatBoost's: the trees that it writes itself become a step of the graph."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.data_types import FloatTensorType

    catboost = need("catboost", "catboost")
    classifier, regressor = shapes()

    def parser(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
        """Two outputs, as of a classifier of scikit-learn, which CatBoost's is not."""
        operator = scope.declare_local_operator("CatBoostClassifier", model)
        operator.inputs = inputs
        for name in ("label", "probabilities"):
            operator.outputs.append(scope.declare_local_variable(name, FloatTensorType()))
        return operator.outputs

    update_registered_converter(
        catboost.CatBoostClassifier, "CatBoostClassifier", classifier, catboost_trees, parser=parser, options=OPTIONS
    )
    update_registered_converter(catboost.CatBoostRegressor, "CatBoostRegressor", regressor, catboost_trees)


def catboost_trees(scope: Any, operator: Any, container: Any) -> None:
    """The node of the trees, without the map that CatBoost puts behind it."""
    import onnx
    from catboost.utils import convert_to_onnx_object

    made = convert_to_onnx_object(operator.raw_operator)
    trees = [node for node in made.graph.node if node.op_type.startswith("TreeEnsemble")]
    others = {node.op_type for node in made.graph.node} - {trees[0].op_type, "ZipMap"} if trees else {"nothing"}
    if len(trees) != 1 or others:
        raise NotImplementedError(f"CatBoost wrote {', '.join(sorted(others)) or len(trees)} beside its trees")
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in trees[0].attribute}
    out = operator.output_full_names
    writer = Writer(scope, container)
    exponent = mends.is_exponent(operator.raw_operator)
    raw = scope.get_unique_variable_name("raw") if exponent else out[0]
    rows = operator.inputs[0].full_name
    container.add_node(
        trees[0].op_type,
        [rows],
        [raw, *out[1:]],
        op_domain="ai.onnx.ml",
        op_version=3,
        name=scope.get_unique_operator_name("CatBoost"),
        **attributes,
    )
    if exponent:
        writer.add("Exp", [raw], out[0])


@contextlib.contextmanager
def exponents() -> Iterator[None]:
    """Adds the exponential function that skl2onnx forgets behind histogram boosting with a logarithmic link."""
    from skl2onnx.common import _registration

    before = _registration._converter_pool[HISTOGRAM]

    def convert(scope: Any, operator: Any, container: Any) -> None:
        if operator.raw_operator.loss not in LOG_LINKED:
            before(scope, operator, container)
            return
        out = operator.outputs[0]
        raw = scope.declare_local_variable("logarithm", out.type)
        before(scope, Rewired(operator, outputs=[raw]), container)
        Writer(scope, container).add("Exp", [raw.full_name], out.full_name)

    _registration._converter_pool[HISTOGRAM] = type(before)(convert, before.get_allowed_options())
    try:
        yield
    finally:
        _registration._converter_pool[HISTOGRAM] = before
