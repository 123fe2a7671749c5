"""Flights of 2013 as a log and labels: TRUTH FLIGHTS DIRECTORY; prints what scikit-learn says of each month.

A model of January and February says whether a flight arrives more than 15 minutes late; its predictions are weighted as if half of the requests had been
logged in some months.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Every sixth flight: 55,000 rows.
STEP = 6


def predicted(flights):
    features = ["dep_delay", "distance", "hour", "month"]
    table = flights.assign(late=(flights.arr_delay > 15).astype(int))
    past = table[table.month <= 2]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(past[features], past.late)
    probabilities = model.predict_proba(table[features]).astype(np.float32)
    return table, probabilities


def main(source, directory):
    flights = pd.read_csv(source).dropna(subset=["arr_delay", "dep_delay"]).iloc[::STEP].reset_index(drop=True)
    table, probabilities = predicted(flights)
    time = pd.to_datetime(table[["year", "month", "day", "hour", "minute"]], utc=True)
    ids = np.array([f"flight-{number}" for number in range(len(table))])
    fraction = np.where(table.month % 2 == 0, 0.5, 1.0)
    fraction[::7] = 1.0
    classes = probabilities.argmax(axis=1)
    log = pa.table(
        {
            "_request_id": ids,
            "_row": np.zeros(len(ids), dtype=np.int64),
            "_time": pa.array(time, type=pa.timestamp("us", tz="UTC")),
            "_model": ["flights"] * len(ids),
            "_role": ["serving"] * len(ids),
            "_error_code": pa.nulls(len(ids), pa.string()),
            "_sampling_fraction": fraction,
            "dep_delay": table.dep_delay.to_numpy(),
            "prediction_label": classes.astype(np.int64),
            "prediction_probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), 2),
        }
    )
    directory = pathlib.Path(directory)
    (directory / "log").mkdir()
    pq.write_table(log, directory / "log/flights.parquet")
    # One flight in ten has no label; every twentieth has an older, wrong one as well.
    known = np.arange(len(ids)) % 10 != 3
    twice = np.arange(len(ids)) % 20 == 0
    base = pd.Timestamp("2014-01-01", tz="UTC")
    labels = pd.concat(
        [
            pd.DataFrame({"request_id": ids[known], "label": table.late[known].astype(str), "time": base}),
            pd.DataFrame({"request_id": ids[twice], "label": (1 - table.late[twice]).astype(str), "time": base - pd.Timedelta("1h")}),
        ]
    )
    labels = pa.table(
        {
            "request_id": labels.request_id.to_numpy(),
            "row": np.zeros(len(labels), dtype=np.int64),
            "label": labels.label.to_numpy(),
            "time": pa.array(labels.time, type=pa.timestamp("us", tz="UTC")),
        }
    )
    pq.write_table(labels, directory / "labels.parquet")
    months = []
    for month in range(1, 13):
        of = (table.month == month).to_numpy()
        rows = of & known
        truth, weight = table.late.to_numpy()[rows], 1 / fraction[rows]
        score = probabilities[rows]
        months.append(
            {
                "rows": int(of.sum()),
                "labelled": int(rows.sum()),
                "accuracy_score": accuracy_score(truth, classes[rows], sample_weight=weight),
                "f1_score": f1_score(truth, classes[rows], sample_weight=weight),
                "roc_auc": roc_auc_score(truth, score[:, 1], sample_weight=weight),
                "log_loss": log_loss(truth, score, sample_weight=weight),
            }
        )
    print(json.dumps(months))


warnings.simplefilter("ignore")
main(*sys.argv[1:])
