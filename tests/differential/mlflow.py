"""Sends random requests to MLflow's scoring code and to onstage, and prints where the two disagree.

    python tests/differential/mlflow.py --binary target/debug/onstage --seed 1 --count 2000
    python tests/differential/mlflow.py --binary target/debug/onstage --seed 1 --model iris_zipmap --case 17
    python tests/differential/mlflow.py --mlflow-only --count 200

MLflow runs in this process; onstage is started once per model, with the ONNX Runtime of this Python. `--count` is per model.
A request depends on the seed, the model's name and its number only, so each can be sent again. Differences that we want are
listed in `ACCEPTED`; all others are for a person to judge. Exit status 1 when there are any, 2 when onstage ended.
"""

import argparse
import contextlib
import http.client
import json
import logging
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

# This directory must not come first: this file would hide the package `mlflow`.
HERE = Path(__file__).resolve().parent
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]

import mlflow  # noqa: E402
import onnxruntime  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.pyfunc import scoring_server  # noqa: E402

sys.path.append(str(HERE))
import packages  # noqa: E402
from generate import generate  # noqa: E402
from values import Column, Model  # noqa: E402

RECORDED = HERE.parent / "conformance" / "mlflow" / "models"
RELATIVE, ABSOLUTE = 1e-5, 1e-6
START_TIMEOUT = 60.0

# What a message is about: the longest beginning and the first part that fit must be the same on both sides.
BEGINNINGS = [
    "Invalid input.",
    "Invalid input. Ensure that input is a valid JSON formatted string.",
    "Invalid input. Ensure that input is a valid UTF-8 encoded string.",
    "Invalid input. The input must be a JSON dictionary with exactly one of the input fields",
    "The input must be a JSON dictionary with exactly one of the input fields",
    "Invalid input. Data is not compatible with model signature.",
    "Invalid input. Dataframe split format must be a dictionary.",
    "Invalid input. Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields.",
    "Invalid input. Dataframe records format must be a list of records.",
    "Invalid input. Provided dataframe_split field is not a valid dataframe representation in 'split' format.",
    "Invalid input. Provided dataframe_records field is not a valid dataframe representation in 'records' format.",
    "Invalid input. The length of values for each input/column name are not the same",
    "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid CSV-formatted Pandas DataFrame",
    "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid Parquet Pandas DataFrame",
    "Failed to predict data",
    "Encountered an unexpected error while evaluating the model.",
]
PARTS = [
    "Model is missing inputs",
    "Invalid parameters found",
    "Parameters must be a dictionary",
    "Incompatible input types for column",
    "does not match expected shape",
    "does not match expected dtype",
]


@dataclass
class Answer:
    status: int
    body: str

    @property
    def value(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def summary(self):
        value = self.value
        code = value.get("error_code") if isinstance(value, dict) else None
        return f"{self.status} {code}" if code else str(self.status)

    @property
    def family(self):
        value = self.value
        message = str(value.get("message", "")) if isinstance(value, dict) else self.body
        beginning = max((text for text in BEGINNINGS if message.startswith(text)), key=len, default="(another message)")
        return beginning, next((text for text in PARTS if text in message), "")


def utf16(request):
    return request.body[:2] in (b"\xff\xfe", b"\xfe\xff") or request.body[:2].count(0) == 1


def lenient_type(request):
    """A content type that MLflow refuses although HTTP allows it."""
    kind = request.content_type
    return not kind or kind != kind.lower() or kind.rstrip().endswith(";") or '"' in kind


def chat_key(request):
    """One of the names at the top of the object that switch MLflow to its chat mode."""
    value = Answer(0, request.body.decode("utf-8", "replace")).value
    return isinstance(value, dict) and not value.keys().isdisjoint(["messages", "prompt", "input"])


def says(answer, text):
    return answer.status == 400 and text in answer.body


# Differences that we want, with the reason; `docs/reference/mlflow-compatibility.md` tells users of each. The first that fits counts.
ACCEPTED = [
    ("a server error there is the client's error here", lambda request, theirs, ours: theirs.status >= 500 > ours.status),
    ("content types that HTTP allows are accepted", lambda request, theirs, ours: lenient_type(request) and ours.status < 500),
    ("bodies are UTF-8 only", lambda request, theirs, ours: utf16(request) and ours.status == 400),
    ("chat keys beside a proper request are ignored", lambda request, theirs, ours: chat_key(request) and theirs.status != 200),
    ("lists nest at most 100 deep", lambda request, theirs, ours: theirs.status != 200 and says(ours, "nested deeper than")),
    ("no row is repeated to fit an index", lambda request, theirs, ours: theirs.status == 200 and says(ours, "match length of index")),
    ("keys are texts also where names are numbers", lambda request, theirs, ours: says(theirs, "Model is missing inputs [0, 1]")),
    ("a lone surrogate is no text", lambda request, theirs, ours: b"\\ud8" in request.body and ours.status == 400),
]


def difference(want, got, path="predictions"):
    """The first difference of two predictions, or `None`; numbers in paths are left out, so that equal faults group."""
    if isinstance(want, dict) and isinstance(got, dict):
        if want.keys() != got.keys():
            return f"{path}: other keys"
        return next(filter(None, (difference(want[key], got[key], f"{path}.{key}") for key in want)), None)
    if isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            return f"{path}: other length"
        return next(filter(None, (difference(*pair, f"{path}[]") for pair in zip(want, got))), None)
    if isinstance(want, float) and not math.isfinite(want):
        return None if got is None or got == want or got != got else f"{path}: want {want}, got {type(got).__name__}"
    if type(want) is not type(got):
        return f"{path}: want {type(want).__name__}, got {type(got).__name__}"
    if isinstance(want, float):
        near = math.isclose(want, got, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        return None if near else f"{path}: other number"
    return None if want == got else f"{path}: other {type(want).__name__}"


def disagreement(theirs, ours):
    """What is different, in a few words; `None` when nothing is."""
    if theirs.summary != ours.summary:
        reason = " … ".join((theirs if theirs.status != 200 else ours).family)
        return f"{theirs.summary} there, {ours.summary} here: {reason!r}"
    if theirs.status == 200:
        return difference(theirs.value, ours.value, "$")
    if theirs.status == 400 and theirs.family != ours.family:
        return f"{theirs.summary}: message {' … '.join(theirs.family)!r} there, {' … '.join(ours.family)!r} here"
    return None


def ask_mlflow(pyfunc, request):
    """What the scoring server does with a request, without the network."""
    schema = pyfunc.metadata.get_input_schema()
    try:
        result = scoring_server.invocations(request.body, request.content_type, pyfunc, schema)
        return Answer(result.status, result.response)
    except MlflowException as error:
        return Answer(error.get_http_status_code(), error.serialize_as_json())
    except Exception as error:  # the server answers so to whatever else is thrown
        return Answer(500, f"Internal Server Error ({type(error).__name__}: {error})")


class Onstage:
    """A running onstage that serves one package."""

    def __init__(self, binary, package):
        libraries = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
        environment = {"PATH": os.environ.get("PATH", ""), "ORT_DYLIB_PATH": str(libraries[-1])}
        command = [binary, "serve", package, "--engine", "onnxruntime", "--port", "0", "--grpc-port", "0"]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.address = self.wait_for_address()
        self.connection = None

    def wait_for_address(self):
        deadline = time.monotonic() + START_TIMEOUT
        for line in self.process.stdout:
            if found := re.search(r"http://(127\.0\.0\.1:\d+)", line):
                return found[1]
            if time.monotonic() > deadline:
                break
        raise RuntimeError("onstage did not start:\n" + self.errors())

    def errors(self):
        self.log.seek(0)
        return self.log.read()[-3000:]

    def ask(self, request):
        headers = {} if request.content_type is None else {"Content-Type": request.content_type}
        for attempt in range(2):
            self.connection = self.connection or http.client.HTTPConnection(self.address, timeout=60)
            try:
                self.connection.request("POST", "/invocations", request.body, headers)
                response = self.connection.getresponse()
                return Answer(response.status, response.read().decode("utf-8", "replace"))
            except (OSError, http.client.HTTPException):
                # A connection kept open may be closed by the server at any time; a fresh one may not.
                self.connection.close()
                self.connection = None
                if attempt:
                    raise

    def stop(self):
        if self.connection:
            self.connection.close()
        self.process.terminate()
        self.process.wait(60)


def describe(path):
    """What the generator has to know of a package."""
    manifest = mlflow.models.Model.load(str(path))
    schema, params = manifest.get_input_schema(), manifest.get_params_schema()
    if schema is None:
        session = onnxruntime.InferenceSession(str(path / "model.onnx"))
        types = {"tensor(float)": "float", "tensor(int64)": "long", "tensor(string)": "string", "tensor(bool)": "boolean"}
        inputs = [Column(given.name, types[given.type], tensor_shape(given.shape)) for given in session.get_inputs()]
    elif schema.is_tensor_spec():
        inputs = [Column(spec.name, spec.type.name.removesuffix("_").replace("str_", "str"), spec.shape) for spec in schema.inputs]
    else:
        inputs = [Column(spec.name, column_type(spec.type), None, spec.required, spec.type) for spec in schema.inputs]
    return Model(path.name, str(path), inputs, params.to_dict() if params else [], schema is not None)


def tensor_shape(shape):
    return tuple(axis if isinstance(axis, int) else -1 for axis in shape)


def column_type(kind):
    return kind.name if hasattr(kind, "name") else type(kind).__name__.lower().removesuffix("type")


@dataclass
class Found:
    model: str
    case: int
    request: object
    theirs: Answer
    ours: Answer


def compare_model(path, arguments, groups, counts):
    """Sends the requests of one package; fills the groups of disagreements."""
    model = describe(path)
    pyfunc = mlflow.pyfunc.load_model(str(path))
    onstage = None if arguments.mlflow_only else Onstage(arguments.binary, str(path))
    cases = range(arguments.count) if arguments.case is None else [arguments.case]
    try:
        for case in cases:
            request = generate(model, Random(f"{arguments.seed}/{model.name}/{case}"))
            theirs = ask_mlflow(pyfunc, request)
            counts[f"MLflow answers {theirs.summary}"] += 1
            if onstage is None:
                continue
            judge(Found(model.name, case, request, theirs, onstage.ask(request)), arguments, groups, counts)
    finally:
        if onstage:
            with contextlib.suppress(subprocess.TimeoutExpired):
                onstage.stop()
    if onstage and onstage.process.returncode not in (0, -15):
        raise RuntimeError(f"{model.name}: onstage ended with {onstage.process.returncode}:\n{onstage.errors()}")


def judge(found, arguments, groups, counts):
    if arguments.case is not None:
        show(found)
    what = disagreement(found.theirs, found.ours)
    if what is None:
        counts["agree"] += 1
        return
    fits = (reason for reason, accepts in ACCEPTED if accepts(found.request, found.theirs, found.ours))
    if reason := next(fits, None):
        counts[f"accepted: {reason}"] += 1
        return
    counts["DISAGREE"] += 1
    groups[what].append(found)


def cut(text, longest):
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


def show(found, longest=600):
    print(f"  {found.model} --case {found.case}  [{', '.join(dict.fromkeys(found.request.labels))}]")
    print(f"    request {found.request.content_type}: {cut(found.request.body.decode('utf-8', 'backslashreplace'), longest)!r}")
    for name, answer in ("MLflow ", found.theirs), ("onstage", found.ours):
        value = answer.value
        text = answer.body
        if isinstance(value, dict) and "message" in value:
            text = value["message"] + (f"\n            {last_line(value['stack_trace'])}" if value.get("stack_trace") else "")
        print(f"    {name} {answer.summary}: {cut(text, longest)}")


def last_line(trace):
    return cut(trace.strip().splitlines()[-1], 200)


def report(groups, counts, examples):
    for what, found in sorted(groups.items(), key=lambda group: -len(group[1])):
        where = Counter(one.model for one in found).most_common(4)
        print(f"\n{len(found)} × {what}   ({', '.join(f'{model} {count}' for model, count in where)})")
        for one in sorted(found, key=lambda one: len(one.request.body))[:examples]:
            show(one)
    print()
    for what, count in sorted(counts.items()):
        print(f"{count:8} {what}")


def quiet():
    """MLflow and pandas comment on nearly every one of these requests."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    onnxruntime.set_default_logger_severity(4)
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="onstage")
    parser.add_argument("--mlflow-only", action="store_true", help="do not start onstage: try the generator")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--count", type=int, default=500, help="requests per model")
    parser.add_argument("--model", action="append", help="only this model (may be repeated)")
    parser.add_argument("--case", type=int, help="only the request of this number, shown in full")
    parser.add_argument("--examples", type=int, default=2, help="examples per group")
    parser.add_argument("--packages", type=Path, help="where the made packages are kept between runs")
    arguments = parser.parse_args()
    if not arguments.binary and not arguments.mlflow_only:
        parser.error("one of --binary and --mlflow-only is needed")
    quiet()
    groups, counts = defaultdict(list), Counter()
    failed = False
    with tempfile.TemporaryDirectory() as made:
        made = arguments.packages or Path(made)
        packages.write(made, arguments.model)
        for path in sorted([*RECORDED.iterdir(), *made.iterdir()]):
            if arguments.model and path.name not in arguments.model:
                continue
            try:
                compare_model(path, arguments, groups, counts)
            except (RuntimeError, OSError, http.client.HTTPException) as error:
                failed = True
                print(f"{path.name}: {error!r}", flush=True)
    report(groups, counts, arguments.examples)
    sys.exit(2 if failed else 1 if groups else 0)


if __name__ == "__main__":
    main()
