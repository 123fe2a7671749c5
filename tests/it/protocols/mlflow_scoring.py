"""Asks a scoring server as MLflow's own clients do, in every form that pandas writes; prints the answers as JSON."""

import io
import json
import sys

import numpy
import pandas
import requests
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

host, port = sys.argv[1].split(":")
client = ScoringServerClient(host, port)
client.wait_server_ready(timeout=10)

columns = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
values = numpy.linspace(-0.1, 0.1, 30).reshape(3, 10)
frame = pandas.DataFrame(values, columns=columns)


def post(body, content_type):
    answer = requests.post(
        f"http://{host}:{port}/invocations", data=body, headers={"Content-Type": content_type}
    )
    answer.raise_for_status()
    return [row["variable"] for row in answer.json()["predictions"]]


def parquet(data=frame, **options):
    body = io.BytesIO()
    data.to_parquet(body, **options)
    return post(body.getvalue(), "application/vnd.apache.parquet")


answers = {
    "version": client.get_version(),
    "client": client.invoke(frame).get_predictions()["variable"].tolist(),
    "csv": post(frame.to_csv(index=False), "text/csv"),
}
for codec in [None, "snappy", "gzip", "zstd", "brotli", "lz4"]:
    answers[f"parquet, {codec}"] = parquet(compression=codec)
indexed = frame.set_index(pandas.Index(["x", "y", "z"], name="patient"))
answers["parquet, an index of texts"] = parquet(indexed)
answers["parquet, older pages"] = parquet(version="1.0", data_page_version="1.0")
answers["parquet, newer pages"] = parquet(data_page_version="2.0", compression="gzip")
answers["parquet, no dictionary"] = parquet(use_dictionary=False)
answers["parquet, row groups of one"] = parquet(row_group_size=1)
more = frame.assign(
    text=["a", None, "c"],
    kind=pandas.Categorical(["a", "b", "a"]),
    flag=[True, None, False],
    at=pandas.to_datetime(["2024-05-01", None, "2024-05-02"]),
    zoned=pandas.to_datetime(["2024-05-01"] * 3, utc=True),
    data=[b"\xff", b"", None],
    list=[[1.0], [], None],
    struct=[{"a": 1}, {"a": 2}, None],
    count=pandas.array([1, None, 3], dtype="Int64"),
    small=numpy.array([1, 2, 3], dtype="uint8"),
    half=numpy.array([1, 2, 3], dtype="float16"),
    span=pandas.to_timedelta([1, 2, 3]),
    empty=[None, None, None],
)
answers["parquet, more columns"] = parquet(more)
print(json.dumps(answers))
