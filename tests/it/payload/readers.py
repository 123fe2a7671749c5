"""What DuckDB, pandas and pyarrow read in a log: READERS LOG, as one JSON object."""

import json
import sys

import duckdb
import pandas
import pyarrow.dataset
import pyarrow.parquet

ORDER = ["_request_id", "_row"]


def plain(frame):
    """Rows as JSON, in one order, without the columns of directories."""
    frame = frame.sort_values(ORDER).drop(columns=["model", "version", "date", "hour"], errors="ignore")
    frame["_time"] = frame["_time"].astype(str)
    return json.loads(frame.to_json(orient="records", double_precision=15))


def main(log):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    files = f"{log}/model=*/**/*.parquet"
    relation = connection.sql(f"SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
    partitions = connection.sql(
        f"SELECT DISTINCT model, version, count(*) FROM read_parquet('{files}', hive_partitioning = true) GROUP BY ALL"
    ).fetchall()
    dataset = pyarrow.dataset.dataset(log, partitioning="hive")
    arrow = dataset.to_table()
    print(
        json.dumps(
            {
                "duckdb": plain(relation.df()),
                "pandas": plain(pandas.read_parquet(log)),
                "pyarrow": plain(arrow.to_pandas()),
                "partitions": [list(row) for row in partitions],
                "types": {field.name: str(field.type) for field in arrow.schema},
            }
        )
    )


main(sys.argv[1])
