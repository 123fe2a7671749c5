"""Converts a trained model to an MLflow package with ONNX weights, and proves that it answers as the original does.

    python convert.py model.joblib --data sample.csv --output package

MODEL is a scikit-learn model or pipeline, an XGBoost or a LightGBM model (`.pkl`, `.pickle`, `.joblib`), a model file of
XGBoost (`.json`, `.ubj`) or LightGBM (`.txt`), or a PyTorch module (`.pt`, `.pth`; where PyTorch is installed).
SAMPLE holds rows that the model can predict: CSV with a header, or `.npy` for arrays.

Beside the package's own files stand `request.json` (the first rows as a request), `expected.json` (what MLflow's scoring
server answers to it) and `parity.json` (how far the ONNX model is from the original on all rows).

Unpickling runs code: convert only files that you trust.
"""

import argparse
import contextlib
import io
import sys
import warnings
from pathlib import Path

import numpy as np
from convert_load import (
    ConversionError,
    LightGbmBooster,
    load_data,
    load_model,
    plan_inputs,
    predictions,
    recognise,
    steps,
    vectorizers,
)
from convert_package import OPSETS, Converted, describe, requirements, tidy

TOLERANCE = 1e-4
UNKNOWN_OPTION = (
    "the converter may not know an option of the model or of a step: convert the steps one by one to find it"
)
# Converters put whole models into their messages.
MESSAGE = 600
# What scikit-learn's default pattern finds, in the words of ONNX Runtime's `Tokenizer`.
DEFAULT_TOKENS = (r"(?u)\b\w\w+\b", r"[\p{L}\p{N}_]{2,}")


def register_boosters():
    """Teaches skl2onnx the estimators of the boosting libraries that are installed, also inside pipelines."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as classifier
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as regressor

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    if "xgboost" in sys.modules:
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        update_registered_converter(
            xgboost.XGBClassifier, "XgbClassifier", classifier, convert_xgboost, options=options
        )
        update_registered_converter(xgboost.XGBRegressor, "XgbRegressor", regressor, convert_xgboost)
    if "lightgbm" in sys.modules:
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        update_registered_converter(
            lightgbm.LGBMClassifier, "LgbmClassifier", classifier, convert_lightgbm, options=options
        )
        update_registered_converter(
            lightgbm.LGBMRegressor, "LgbmRegressor", regressor, convert_lightgbm, options={"split": None}
        )


def to_onnx(original, inputs, zipmap, name):
    """The graph of a model that is not PyTorch's."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    kinds = {"f": FloatTensorType, "d": DoubleTensorType, "O": StringTensorType}
    types = [(feed, kinds[rows.dtype.char]([None, *rows.shape[1:]])) for feed, rows in inputs.feeds.items()]
    try:
        if isinstance(original.model, LightGbmBooster):
            from onnxmltools import convert_lightgbm
            from onnxmltools.convert.common.data_types import FloatTensorType
            from onnxmltools.convert.common.onnx_ex import get_maximum_opset_supported

            types = [(feed, FloatTensorType([None, rows.shape[1]])) for feed, rows in inputs.feeds.items()]
            zipped = {"zipmap": zipmap} if original.probabilistic else {}
            opset = min(OPSETS[""], get_maximum_opset_supported())
            return convert_lightgbm(original.model.booster, name, types, target_opset=opset, **zipped)
        import skl2onnx

        register_boosters()
        hide_names(original.model)
        options = {id(step): {"tokenexp": tokens(step)} for step in vectorizers(original.model)}
        if original.probabilistic:
            options[id(original.model)] = {"zipmap": zipmap}
        with booleans_as_integers():
            return skl2onnx.to_onnx(
                original.model, name=name, initial_types=types, options=options, target_opset=OPSETS
            )
    except ModuleNotFoundError as missing:
        raise ConversionError(
            f"the converter `{missing.name}` is not installed", f"`pip install {missing.name}`"
        ) from missing
    except Exception as cause:  # the converters raise anything from KeyError to RuntimeError
        raise ConversionError(
            f"the converter of {original.library} failed: {type(cause).__name__}: {str(cause)[:MESSAGE]}",
            "not every estimator has an ONNX form: replace the step that the message names, for example a "
            "`FunctionTransformer` or an estimator of your own",
        ) from cause


@contextlib.contextmanager
def booleans_as_integers():
    """skl2onnx 1.20 gives booleans for integers (histogram boosting's missing values), which onnx 1.23 refuses."""
    from skl2onnx.common import _container

    given = _container.make_node

    def make_node(*arguments, **attributes):
        for name, value in attributes.items():
            if isinstance(value, list) and any(isinstance(item, (bool, np.bool_)) for item in value):
                attributes[name] = [int(item) for item in value]
        return given(*arguments, **attributes)

    _container.make_node = make_node
    try:
        yield
    finally:
        _container.make_node = given


def tokens(vectorizer):
    given = vectorizer.token_pattern
    return DEFAULT_TOKENS[1] if given == DEFAULT_TOKENS[0] else given


def hide_names(model):
    """Forgets the names of XGBoost's features: its converter wants f0, f1, … and fails at others."""
    for step in steps(model):
        if type(step).__module__.startswith("xgboost"):
            step.get_booster().feature_names = None


def torch_to_onnx(original, inputs, _zipmap, _name):
    """The graph of a PyTorch module."""

    import onnx
    import torch

    written = io.BytesIO()
    torch.onnx.export(
        original.model,
        (torch.from_numpy(inputs.feeds["input"]),),
        written,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        opset_version=OPSETS[""],
        dynamo=False,
    )
    return onnx.load_model_from_string(written.getvalue())


def compare(reference, found, tolerance):
    """How far the ONNX model is from the original, as the content of `parity.json`."""
    labels, numbers = reference
    report = {"rows": len(found[0]), "tolerance": tolerance, "max_difference": None, "rows_over_tolerance": 0}
    over = np.zeros(len(found[0]), bool)
    if numbers is not None:
        got = np.array([list(row.values()) for row in found[-1]]) if isinstance(found[-1], list) else found[-1]
        got, numbers = np.reshape(got, (len(got), -1)).astype(float), numbers.reshape(len(numbers), -1).astype(float)
        if got.shape != numbers.shape:
            raise ConversionError(
                f"the graph answers numbers of shape {list(got.shape)}, the original {list(numbers.shape)}",
                UNKNOWN_OPTION,
            )
        # Relative where numbers are large, absolute where they are small.
        difference = np.abs(got - numbers) / np.maximum(1.0, np.abs(numbers))
        difference[np.isnan(got) & np.isnan(numbers)] = 0.0
        report["max_difference"] = float(difference.max())
        over |= ~(difference <= tolerance).all(axis=1)
    if labels is not None:
        agree = np.array([str(a) == str(b) or a == b for a, b in zip(labels, np.ravel(found[0]))])
        report["labels_agree"] = int(agree.sum())
        if numbers is not None:
            best = np.sort(numbers, axis=1)
            # Between two classes that are as likely, either is right.
            agree |= best[:, -1] - best[:, -2] <= 2 * tolerance
        over |= ~agree
    report["rows_over_tolerance"] = int(over.sum())
    return report


def hint_for_parity(report, inputs, float64):
    if float64 or inputs.layout == "text" or report["rows_over_tolerance"] > report["rows"] / 2:
        return UNKNOWN_OPTION
    return (
        "the graph computes in float32, the original in float64: where a value lies beside a threshold of a tree, or is larger "
        "than 16,777,216, another leaf is taken. Try `--float64` (scikit-learn only), or train on `astype(numpy.float32)`"
    )


def convert(model, data, *, name="model", zipmap=None, columns=False, float64=False, tolerance=TOLERANCE):
    """Converts a trained model and compares it with the original on `data`, a DataFrame or an array.

    `zipmap`: probabilities as one map per row instead of one tensor. `columns`: an MLflow column signature instead of a
    tensor signature; a classifier then needs the maps. Raises `ConversionError`, also if the two differ by more than
    `tolerance`. XGBoost models forget the names of their features.
    """
    original = recognise(model)
    zipmap = wants_maps(original, columns, zipmap)
    inputs = plan_inputs(original, data, np.float64 if float64 else np.float32)
    if columns and inputs.layout != "matrix":
        raise ConversionError(
            "a column signature is for numbers in one matrix; this graph takes other tensors",
            "leave out `--columns`: a tensor signature takes the same tables",
        )
    # Before the conversion, which takes the names off XGBoost's features.
    reference = predictions(original, inputs.original)
    graph = torch_to_onnx if original.library == "torch" else to_onnx
    onnx_model = only_used_outputs(original, tidy(graph(original, inputs, zipmap, name)))
    found = run(onnx_model, inputs.feeds, float64)
    parity = {"library": original.library, **compare(reference, found, tolerance), "notes": inputs.notes}
    if parity["rows_over_tolerance"]:
        over = f"{parity['rows_over_tolerance']} of {parity['rows']} rows"
        raise ConversionError(
            f"the ONNX model differs from the original in {over}: {summary(parity)}",
            hint_for_parity(parity, inputs, float64),
        )
    signature, example, request = describe(inputs, onnx_model, columns)
    package = {
        "onnx_model": onnx_model,
        "signature": signature,
        "input_example": example,
        "pip_requirements": requirements(),
        "onnx_execution_providers": ["CPUExecutionProvider"],
        "save_as_external_data": False,
    }
    return Converted(package, request, parity)


def wants_maps(original, columns, zipmap):
    """Whether the probabilities become maps: as asked for, or because the columns need them."""
    if columns and original.probabilistic and zipmap is False:
        raise ConversionError(
            "label and probabilities cannot be answered under a column signature: MLflow makes one value per row of an output",
            "convert with `--zipmap`, which makes the probabilities one value, or leave out `--columns`",
        )
    return original.probabilistic and bool(columns if zipmap is None else zipmap)


def run(onnx_model, feeds, float64):
    """What the graph answers to the sample."""
    import onnxruntime

    if float64:
        declare_float32_of_trees(onnx_model.graph)
    try:
        session = onnxruntime.InferenceSession(onnx_model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    except Exception as cause:  # ONNX Runtime's errors have no common base
        hint = "not all operators know float64: leave out `--float64`" if float64 else None
        raise ConversionError(f"the graph does not run: {cause}", hint) from cause


def only_used_outputs(original, onnx_model):
    """Drops the scores of a classifier without probabilities: they are on no scale that a client could know."""
    if original.classes is not None and not original.probabilistic:
        del onnx_model.graph.output[1:]
        given = onnx_model.graph.output[0].name
        # Swapped, for an inner value may have the name already.
        swap = {given: "label", "label": given}
        for node in onnx_model.graph.node:
            node.input[:] = [swap.get(name, name) for name in node.input]
            node.output[:] = [swap.get(name, name) for name in node.output]
        onnx_model.graph.output[0].name = "label"
    return onnx_model


def declare_float32_of_trees(graph):
    """Trees compare in float64 and answer in float32 all the same, but the converters declare float64."""
    from onnx import TensorProto

    trees = {name for node in graph.node if node.op_type.startswith("TreeEnsemble") for name in node.output}
    for node in graph.node:
        if node.op_type in ("Identity", "ZipMap") and trees & set(node.input):
            trees.update(node.output)
    for value in graph.output:
        maps = value.type.sequence_type.elem_type.map_type.value_type
        kind = (maps if value.type.HasField("sequence_type") else value.type).tensor_type
        if value.name in trees and kind.elem_type == TensorProto.DOUBLE:
            kind.elem_type = TensorProto.FLOAT


def summary(parity):
    parts = []
    if "labels_agree" in parity:
        parts.append(f"{parity['labels_agree']} of {parity['rows']} labels agree")
    if parity["max_difference"] is not None:
        parts.append(f"largest difference {parity['max_difference']:.2g} (tolerance {parity['tolerance']:g})")
    return ", ".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path, help="the trained model")
    parser.add_argument("--data", metavar="SAMPLE", type=Path, required=True, help="rows to compare on")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True, help="where the package is written")
    parser.add_argument("--name", help="name of the graph (default: the name of DIR)")
    parser.add_argument(
        "--zipmap",
        action=argparse.BooleanOptionalAction,
        help="probabilities as one map per row (default: with --columns)",
    )
    parser.add_argument("--columns", action="store_true", help="a signature of named columns instead of tensors")
    parser.add_argument("--float64", action="store_true", help="compute in float64 (scikit-learn only)")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help=f"largest difference (default: {TOLERANCE:g})"
    )
    arguments = parser.parse_args()
    output = arguments.output
    warnings.simplefilter("ignore", FutureWarning)
    try:
        if output.exists() and not (output / "MLmodel").exists() and any(output.iterdir()):
            raise ConversionError(
                f"`{output}` holds other files", "name a new directory, or one with a package to renew"
            )
        converted = convert(
            load_model(arguments.model),
            load_data(arguments.data),
            name=arguments.name or output.resolve().name,
            zipmap=arguments.zipmap,
            columns=arguments.columns,
            float64=arguments.float64,
            tolerance=arguments.tolerance,
        )
        converted.save(output)
    except ConversionError as error:
        print(f"error: {error}" + (f"\n\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        sys.exit(1)
    for note in converted.parity["notes"]:
        print(f"note: {note}")
    print(f"parity on {converted.parity['rows']} rows: {summary(converted.parity)}")
    print(f"serve it: onstage serve {output}")


if __name__ == "__main__":
    main()
