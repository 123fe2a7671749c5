"""Numbers and what was true of them, as lines of JSON: NUMBERS LOG LABELS; prints what scikit-learn says."""

import json
import pathlib
import sys

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error


def main(log, labels):
    table = pq.read_table(log).to_pandas()
    # Singles as they are written, which is how `quality` reads them.
    table["prediction"] = [float(str(np.float32(number))) for number in table.prediction]
    truth = table.prediction * 1.1 - 3 + table["_row"]
    lines = [json.dumps({"request_id": id, "row": row, "label": label}) for id, row, label in zip(table["_request_id"], table["_row"], truth)]
    pathlib.Path(labels).write_text("\n".join(lines))
    scores = {"mean_absolute_error": mean_absolute_error, "root_mean_squared_error": root_mean_squared_error, "r2_score": r2_score}
    print(json.dumps({name: score(truth, table.prediction) for name, score in scores.items()}))


main(*sys.argv[1:])
