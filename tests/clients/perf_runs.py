"""perf_analyzer, Triton's load generator, measures the server: it must run to its end and count what it sent.

How fast the server was is no concern here: only counts are checked.
"""

import csv
import os
import subprocess

import pytest

PROGRAM = os.environ.get("PERF_ANALYZER", "")
REQUESTS = 60
# A range of levels is measured by windows; every window counts as stable.
WINDOWS = ["--measurement-mode", "count_windows", "--measurement-request-count", str(REQUESTS)]
WINDOWS += ["--stability-percentage", "999", "--max-trials", "3"]


@pytest.fixture(scope="module")
def program():
    assert os.path.isfile(PROGRAM), f"`PERF_ANALYZER` is `{PROGRAM}`, expected the program: use `make test-clients`"
    return PROGRAM


def run(program, server, report, *arguments, protocol="http", model="iris"):
    """The rows of the report, one per level of concurrency, and what was printed."""
    address = {"http": server.http, "grpc": server.grpc}[protocol]
    command = [program, "-m", model, "-u", address, "-i", protocol, "-f", str(report), "--verbose-csv"]
    if "--concurrency-range" in arguments:
        command += WINDOWS
    else:
        command += ["--request-count", str(REQUESTS)]
    command += arguments
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    with report.open(newline="") as file:
        return list(csv.DictReader(file)), done.stdout


def check(rows, levels, printed):
    assert [row["Concurrency"] for row in rows] == [str(level) for level in levels]
    for row in rows:
        assert float(row["Inferences/Second"]) > 0, row
        assert 0 < float(row["p50 latency"]) <= float(row["p99 latency"]), row
    assert printed.count("Request count:") >= len(levels), printed
    assert "Failed" not in printed, printed


FORMATS = [("binary", "binary"), ("json", "json"), ("binary", "json"), ("json", "binary")]


@pytest.mark.parametrize(("given", "wanted"), FORMATS)
def test_http_in_every_format(program, server, tmp_path, given, wanted):
    formats = [f"--input-tensor-format={given}", f"--output-tensor-format={wanted}"]
    rows, printed = run(program, server, tmp_path / "report.csv", *formats)
    check(rows, [1], printed)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_batches_and_levels_of_concurrency(program, server, tmp_path, protocol):
    for batch in [1, 4]:
        report = tmp_path / f"{batch}.csv"
        rows, printed = run(program, server, report, "-b", str(batch), "--concurrency-range", "1:3", protocol=protocol)
        check(rows, [1, 2, 3], printed)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_runs_without_waiting_for_answers(program, server, tmp_path, protocol):
    rows, printed = run(program, server, tmp_path / "report.csv", "--async", "--concurrency-range", "4", protocol=protocol)
    check(rows, [4], printed)


def test_grpc_streams_and_compresses(program, server, tmp_path):
    rows, printed = run(program, server, tmp_path / "stream.csv", "--async", "--streaming", protocol="grpc")
    check(rows, [1], printed)
    gzip = ["--grpc-compression-algorithm", "gzip"]
    rows, printed = run(program, server, tmp_path / "gzip.csv", *gzip, protocol="grpc")
    check(rows, [1], printed)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_servers_own_statistics_count_the_same(program, server, tmp_path, protocol):
    rows, printed = run(program, server, tmp_path / "report.csv", protocol=protocol)
    assert "Server:" in printed, printed
    for name in ["Inference count:", "Execution count:", "Successful request count:"]:
        counts = [int(line.split(":")[1]) for line in printed.splitlines() if name in line]
        assert counts and min(counts) > 0, f"{name} {printed}"
    assert float(rows[0]["Server Compute Infer"]) > 0


def test_texts_are_sent_too(program, server, tmp_path):
    texts = ["--string-length", "12", "--shape", "x:1,2"]
    rows, printed = run(program, server, tmp_path / "report.csv", *texts, model="twice_str")
    check(rows, [1], printed)
