"""Evaluates one Python expression per line of input, each a JSON text, and answers each with a line of JSON."""

import json
import sqlite3
import sys

import mlflow
import mlflow.onnx
import onnx

# What MLflow prints must not be taken for an answer.
answers, sys.stdout = sys.stdout, sys.stderr

mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()


def register(name, path):
    """Logs the graph at `path` as a model of a new run and registers it; tells how to find it."""
    with mlflow.start_run() as run:
        info = mlflow.onnx.log_model(
            onnx.load(path), name="model", registered_model_name=name, pip_requirements=["onnx"]
        )
    return {"run": run.info.run_id, "id": info.model_id, "version": info.registered_model_version}


def sql(database, script):
    """Changes what no call of MLflow's API can."""
    with sqlite3.connect(database) as connection:
        connection.executescript(script)


for line in sys.stdin:
    try:
        answer = {"value": eval(json.loads(line))}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer, default=str), file=answers, flush=True)
