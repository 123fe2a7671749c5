"""Records answers of the real MLflow for packages with rare signatures and for models of the scikit-learn flavor.

    python tests/differential/record.py

writes the packages below `tests/conformance/mlflow/models` (those that exist stay) and replaces their cases in `cases.jsonl`;
the cases of other packages stay as they are. Run it with the versions in `tests/constraints.txt`.
"""

import importlib.util
import json
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]

import mlflow  # noqa: E402

sys.path.append(str(HERE))
import columns  # noqa: E402
import estimators  # noqa: E402

spec = importlib.util.spec_from_file_location("differential", HERE / "mlflow.py")
differential = importlib.util.module_from_spec(spec)
sys.modules["differential"] = differential
spec.loader.exec_module(differential)

DATA = HERE.parent / "conformance" / "mlflow"
JSON = "application/json"


class Request:
    """What the scoring code sees of a request."""

    def __init__(self, body, content_type):
        self.body, self.content_type = body.encode(), content_type


def record(pyfunc, case):
    """The case with MLflow's answer."""
    content_type = case["headers"]["Content-Type"]
    answer = differential.ask_mlflow(pyfunc, Request(case["body"], content_type))
    body = answer.value
    if body is None:
        raise RuntimeError(f"{case['id']}: the answer is no JSON: {answer.body}")
    case["compare"] = "predictions" if answer.status == 200 else "error"
    if answer.status != 200:
        body.pop("stack_trace", None)
        body["message"] = differential.cut(body["message"], 120)
        case["message_prefix"], case["message_contains"] = answer.family
    # What is no JSON for its bare NaN is kept as text.
    strict = '"predictions"' not in answer.body or not re.search(r"\b(NaN|Infinity)\b", answer.body)
    response = {"format": "json", "body": body} if strict else {"format": "json-nan", "body": answer.body}
    case["response"] = {"status": answer.status, "content_type": JSON, **response}
    return case


def case(model, category, what, body, content_type=JSON, setting=None):
    text = body if isinstance(body, str) else json.dumps(body)
    made = {"id": f"{model}.{what}", "model": model, "category": category, "method": "POST", "path": "/invocations"}
    if setting:
        made["setting"] = setting
    return {**made, "headers": {"Content-Type": content_type}, "body": text}


def rare_signatures(models):
    for package in columns.PACKAGES:
        columns.write(models / package.name, package)
        pyfunc = mlflow.pyfunc.load_model(str(models / package.name))
        for number, (what, body) in enumerate(package.requests):
            made = record(pyfunc, case(package.name, package.category, f"{number:02}_{what}", body))
            note = next((note for end, note in columns.QUIRKS.items() if made["id"].endswith(end)), None)
            yield {**made, "quirk": True, "note": note} if note else made


def scikit_learn(models):
    for model in estimators.MODELS:
        fitted = estimators.fit(model)
        estimators.write(models / model.name, model, fitted)
        for setting in model.settings:
            with tempfile.TemporaryDirectory() as made:
                path = Path(made) / "model"
                estimators.write_original(path, model, fitted, setting)
                pyfunc = mlflow.pyfunc.load_model(str(path))
                for what, body, content_type in estimators.requests(model):
                    made_case = case(model.name, "response", f"{setting}_{what}", body, content_type, setting)
                    yield record(pyfunc, made_case)


def main():
    differential.quiet()
    models = DATA / "models"
    cases = [*rare_signatures(models), *scikit_learn(models)]
    ours = {case["model"] for case in cases}
    file = DATA / "cases.jsonl"
    kept = [line for line in file.read_text().splitlines() if json.loads(line)["model"] not in ours]
    file.write_text("\n".join([*kept, *(json.dumps(case) for case in cases)]) + "\n")
    for model in sorted(ours):
        of_model = [case for case in cases if case["model"] == model]
        print(f"{model}: {len(of_model)} cases, {sum(case['response']['status'] == 200 for case in of_model)} of them with predictions")


if __name__ == "__main__":
    main()
