"""From the model that people have to the package that is served."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from onstage._convert import graph, parity, sample
from onstage._convert.converters import attempts
from onstage._convert.layout import Layout, plan
from onstage._convert.original import Answer, Original, recognise
from onstage._convert.package import Converted, register_version, save
from onstage._convert.source import Source, open_source
from onstage.errors import ConversionError, ParityError

log = logging.getLogger("onstage")

__all__ = ["Converted", "convert", "make"]


def convert(model_or_uri: Any, data: Any = None, *, output: str | Path | None = None, register: str | None = None) -> str:
    """Converts a trained model to an ONNX package that answers as the model does.

    `model_or_uri`: a fitted estimator, a booster, a module of PyTorch, the path of an MLflow package or of a model file,
    or a URI of MLflow (`models:/fraud/3`, `models:/fraud@champion`, `runs:/…`). Loading a pickle runs the code in it:
    name only sources that you trust. `data`: rows that it can predict, as a frame, an array, or a file (`.parquet`,
    `.csv`, `.npy`); they show whether both answer alike, and where they are fewer than 1,000 rows are made up beside them.

    `output` names a directory for the package; `register` a registered model, of which it becomes a new version, beside the
    old ones and without an alias. Gives the path, or `models:/NAME/VERSION`. Nothing is written unless the answers agree:
    `ParityError` has the report, `ConversionError` tells of a model that has no ONNX form.
    """
    if (output is None) == (register is None):
        raise ConversionError("the package has nowhere to go", "name either `output=` a directory or `register=` a model")
    converted = make(model_or_uri, data)
    if register is not None:
        return register_version(converted, register)
    return save(converted, Path(str(output)))


def make(model_or_uri: Any, data: Any = None, *, signature: Any = None, example: Any = None) -> Converted:
    """The converted model in memory, with the report of its parity."""
    source = open_source(model_or_uri)
    source.signature = signature if signature is not None else source.signature
    source.example = example if example is not None else source.example
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert_source(source, load_data(data))


def load_data(data: Any) -> Any:
    """The rows in a file, or as they are."""
    if not isinstance(data, (str, Path)):
        return data
    import numpy as np
    import pandas as pd

    path = Path(data)
    if not path.is_file():
        raise ConversionError(f"there is no data file `{path}`")
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return pd.read_parquet(path) if path.suffix in (".parquet", ".pq") else pd.read_csv(path)
    except (ValueError, OSError, UnicodeDecodeError, pd.errors.ParserError) as cause:
        raise ConversionError(f"`{path}` cannot be read: {cause}", "expected .parquet, .csv with a header, or .npy") from cause


def convert_source(source: Source, data: Any) -> Converted:
    """Plans the inputs, makes the graph, compares; tries another way of converting where the answers differ."""
    original = recognise(source.model)
    layout = plan(original, source.signature, data if data is not None else source.example)
    frame, given = rows(original, layout, data, source.example)
    first = original.predict(frame.head(3) if hasattr(frame, "head") else frame[:3])
    if original.kind == "regressor":
        original.targets = first.numbers.shape[1]
    failures: list[Exception] = []
    best: dict[str, Any] | None = None
    waiting = attempts(original, layout)
    while waiting:
        attempt = waiting.pop(0)
        try:
            model = graph.build(original, layout, attempt, "model")
            report = parity.compare(original, layout, frame, run(model, original, layout, frame))
        except ConversionError as failure:
            failures.append(failure)
            log.debug("%s: %s", attempt, failure)
            continue
        report["rows_given"] = given
        log.debug("%s: %s", attempt, report)
        if report["accepted"]:
            return Converted(model, original, layout, frame, report, source)
        if best is None or report["refused"] < best["refused"]:
            best = report
        if original.probabilistic and only_labels(report) and not attempt.label_of_probabilities:
            waiting.insert(0, replace(attempt, label_of_probabilities=True))
        elif waiting and waiting[0].floats and not waiting[0].double and not attempt.double:
            # It runs: whole numbers as others would change nothing.
            waiting.pop(0)
    if best is None:
        raise failures[0]
    raise differs(best)


def only_labels(report: dict[str, Any]) -> bool:
    """Whether all probabilities are right, and some labels are not."""
    largest = report["max_difference"]
    return largest is not None and largest <= parity.TOLERANCE and report["labels_agree"] < report["rows"]


def rows(original: Original, layout: Layout, data: Any, example: Any) -> tuple[Any, int]:
    """The rows to compare on, and how many were given."""
    if layout.inner != "tensor":
        return sample.rows(original, layout, data, example)
    import numpy as np

    given = data if data is not None else example
    if given is None:
        given = np.random.default_rng(0).normal(size=(8, *(abs(size) for size in layout.shape)))
    array = np.asarray(given, dtype=np.float32)
    return array, len(array)


def run(model: Any, original: Original, layout: Layout, frame: Any) -> Answer:
    """What the graph says to the rows, by ONNX Runtime."""
    import numpy as np
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, graph.feeds(layout, frame))
    except Exception as cause:  # ONNX Runtime's errors have no common base
        raise ConversionError(
            f"the graph that the converter wrote does not run: {' '.join(str(cause).split())[:500]}",
            "a converter wrote it wrong: replace the step that the message names, or send us the model",
        ) from cause
    if original.kind in ("regressor", "tensor"):
        return Answer(numbers=np.concatenate([part.reshape(len(part), -1) for part in found], axis=1).astype(float))
    if len(found) == 1:
        return Answer(found[0])
    numbers = found[1]
    if isinstance(numbers, list):
        numbers = np.array([list(row.values()) for row in in_order(numbers, original)], dtype=float)
    return Answer(found[0], numbers.reshape(len(numbers), -1).astype(float))


def in_order(maps: list[dict[Any, float]], original: Original) -> list[dict[Any, float]]:
    """Maps in the order of the classes: ONNX Runtime sorts texts by their bytes."""
    keys = list(maps[0]) if maps else []
    wanted = [next((key for key in keys if key == value or str(key) == str(value)), None) for value in original.classes or []]
    return [{key: row[key] for key in wanted} for row in maps] if None not in wanted else maps


def differs(report: dict[str, Any]) -> ParityError:
    """The error for a graph that answers otherwise, with rows to see it."""
    if report["refused"]:
        message = f"the ONNX model differs from the original in {report['refused']} of {report['rows']} rows"
        hint = (
            "the converter may not know an option of the model or of a step: convert the steps one by one to find it, "
            "or replace the one that differs; docs/guides/convert.md lists the known faults"
        )
        return ParityError(f"{message}: {parity.summary(report)}\n{parity.table(report)}", hint, report)
    return ParityError(
        f"{report['cut_points']} of {report['rows']} rows are at a cut point, more than 3 in 100: {parity.summary(report)}",
        "the graph computes in float32: train on rounded features (`astype(numpy.float32)`), so that trees do not "
        "cut between numbers that float32 cannot tell apart",
        report,
    )
