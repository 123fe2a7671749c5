"""Random bodies of Parquet: tables with columns of the model's types and of others, laid out in every way that pandas knows."""

import io

import numpy
import pandas
from values import Request, good

MIME = "application/vnd.apache.parquet"
NUMPY = {"boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64"}
OTHERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "bool", "object"]
CODECS = [None, "snappy", "gzip", "zstd", "brotli", "lz4"]


def parquet_request(model, random):
    labels = ["parquet"]
    rows = random.choice([1, 1, 2, 3, 50])
    frame = pandas.DataFrame({str(name): series(column, rows, random, labels) for name, column in named(model)})
    change = random.choice([None] * 8 + ["reordered", "missing column", "extra column", "index", "no rows"])
    if change:
        labels.append(change)
    if change == "reordered":
        frame = frame[frame.columns[::-1]]
    elif change == "missing column":
        frame = frame[frame.columns[1:]]
    elif change == "extra column":
        frame["extra"] = random.choice([1, "x", 1.5, True])
    elif change == "index":
        frame.index = pandas.Index([f"row {n}" for n in range(rows)], name=random.choice([None, "id"]))
    elif change == "no rows":
        frame = frame[:0]
    file = io.BytesIO()
    frame.to_parquet(
        file,
        compression=random.choice(CODECS),
        use_dictionary=random.random() < 0.7,
        row_group_size=random.choice([1, 2, 1000]),
        data_page_version=random.choice(["1.0", "2.0"]),
    )
    body = file.getvalue()
    if random.random() < 0.03:
        labels.append("bytes")
        body = random.choice([b"", b"PAR1", body[:-9], body[:40], b"x" * 50])
    return Request(MIME, body, labels)


def named(model):
    return [(column.name if column.name is not None else n, column) for n, column in enumerate(model.inputs)]


def series(column, rows, random, labels):
    """A column of the type that is asked for, mostly; with missing values, now and then."""
    dtype = NUMPY.get(column.type, column.type if column.type in OTHERS else "object")
    values = [good(column, random, row) for row in range(rows)]
    if random.random() < 0.12:
        dtype = random.choice(OTHERS)
        labels.append(f"as {dtype}")
        values = [random.randint(0, 100) for _ in range(rows)]
    if dtype != "object":
        values = [value if isinstance(value, (bool, int, float)) else 1 for value in values]
        return pandas.Series(numpy.array(values).astype(dtype))
    if random.random() < 0.1:
        labels.append("missing text")
        values[0] = None
    return pandas.Series([value if value is None else str(value) for value in values], dtype="object")
