"""Tries to refute verdicts of independent rows by running the graphs with ONNX Runtime.

    python check.py --corpus DIR --verdicts FILE

FILE has a line of JSON for each graph: `{"file": ..., "independent": true, "reason": ...}`. A graph that is called
independent and is not counts as a violation; its graph and the inputs that show it are saved. Exits with 1 if there are
violations, or graphs without a verdict. Every graph is measured, whatever its verdict: the tables say how many of the
really independent ones are proven, and why the others are not.

    python check.py --corpus DIR --stub

proves the harness itself: it takes every graph for independent. Exits with 1 unless each kind of mutation is detected at
least once, every `mixing` graph is, and no `rowwise` one.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx

import report
import workers
from corpus import read, recorded_values, save_arrays
from oracle import CANNOT_RUN, INDEPENDENT, MIXING, Judgement, judge

# Of processor time for a graph; most need a twentieth of a second.
TIMEOUT = 60
NO_VERDICT = "no verdict"


def measure(corpus, entry, seed, reproducers):
    """The judgement of a graph as plain data; saves what reproduces a violation if its verdict is independent."""
    model = onnx.load(corpus / entry["file"])
    found = judge(model, entry, recorded_values(corpus, entry), seed)
    reproducer = None
    if found.state == MIXING and found.feed is not None and reproducers:
        path = reproducers / Path(entry["file"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((corpus / entry["file"]).read_bytes())
        reproducer = str(path.with_suffix(".npz"))
        save_arrays(reproducer, {name: np.asarray(array) for name, array in found.feed.items()})
    return plain(found, reproducer)


def plain(found, reproducer=None):
    kept = {"state": found.state, "reason": found.reason, "ties": found.ties, "failing_runs": found.failing_runs}
    return {**kept, "reproducer": reproducer}


def read_verdicts(path, corpus):
    """The verdicts by the absolute path of the graph; relative ones start here or at the corpus."""
    verdicts = {}
    for line in path.read_text().splitlines():
        verdict = json.loads(line)
        file = Path(verdict["file"])
        verdicts[(file if file.exists() else corpus / file).resolve()] = verdict
    return verdicts


def measured(arguments, listing, proven):
    """A result for each graph of the corpus, in order."""
    graphs = listing["graphs"]
    tasks = [
        (arguments.corpus, entry, listing["seed"], arguments.reproducers if proven(entry) else None) for entry in graphs
    ]
    results = [None] * len(tasks)
    for at, state, result in workers.run(measure, tasks, arguments.jobs, TIMEOUT):
        results[at] = result if state == "done" else plain(Judgement(CANNOT_RUN, f"ONNX Runtime {state}"))
    keys = ("file", "origin", "name", "kind")
    return [{**{key: entry[key] for key in keys}, **result} for entry, result in zip(graphs, results)]


def with_verdicts(arguments, listing):
    """Results with `proven` and `why_not`, and the graphs that lack a verdict."""
    verdicts = {} if arguments.stub else read_verdicts(arguments.verdicts, arguments.corpus)
    stub = {"independent": True, "reason": ""} if arguments.stub else {"independent": False, "reason": NO_VERDICT}

    def verdict(entry):
        return verdicts.get((arguments.corpus / entry["file"]).resolve(), stub)

    results = measured(arguments, listing, lambda entry: not arguments.stub and verdict(entry)["independent"])
    for each in results:
        each["proven"], each["why_not"] = verdict(each)["independent"], verdict(each)["reason"]
    return results, [each for each in results if each["why_not"] == NO_VERDICT]


def harness_faults(results):
    """What a harness that works does not show, when every graph counts as independent."""
    faults = [f"{kind} is never detected" for kind, counts in report.kinds(results).items() if not counts["mixing"]]
    expected = {"mixing": MIXING, "rowwise": INDEPENDENT}
    for each in results:
        if each["origin"] in expected and each["state"] != expected[each["origin"]]:
            faults.append(f"{each['file']} is {each['state']}: {each['reason']}")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, type=Path, help="what generate.py wrote")
    verdicts = parser.add_mutually_exclusive_group(required=True)
    verdicts.add_argument("--verdicts", type=Path, help="JSON lines")
    verdicts.add_argument("--stub", action="store_true", help="check the harness: every graph counts as independent")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--reproducers", type=Path, help="directory for violations (default: CORPUS/violations)")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    arguments.reproducers = arguments.reproducers or arguments.corpus / "violations"

    start = time.monotonic()
    results, missing = with_verdicts(arguments, read(arguments.corpus))
    wrong = report.violations(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.figures(results), indent=1))
    if arguments.stub:
        faults = harness_faults(results)
        report.print_measure(results)
        for fault in faults:
            print(f"FAULT {fault}")
        print(f"{len(wrong)} graphs refuted, {len(faults)} faults of the harness, {time.monotonic() - start:.0f} s")
        sys.exit(1 if faults else 0)
    report.print_all(results)
    print(f"{len(wrong)} violations, {len(missing)} graphs without a verdict, {time.monotonic() - start:.0f} s")
    sys.exit(1 if wrong or missing else 0)


if __name__ == "__main__":
    main()
