"""Writes a corpus of ONNX graphs: some keep rows apart, many mix them, and `check.py` finds out which.

    python generate.py --out DIR --seed 1 --random 200 --census DIR --packages DIR

`DIR/corpus.json` describes each graph: its file, its origin (census, example, node, random, mutant, mixing or rowwise),
the parent, kind and edge of a mutant, its inputs and whether they carry rows, and a file of recorded values. `skipped`
in it lists the graphs that ONNX Runtime cannot load. `DIR/files.txt` has a path for each graph.
"""

import argparse
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

import workers
from corpus import Writer
from kinds import KINDS
from mutants import NoMutant, mutant
from random_graphs import random_graph
from runs import load
from sources import census, node_models, packages
from written import WRITTEN, written_graph

# Of processor time for a graph and its mutants.
TIMEOUT = 60
# Models that demand an opset which ONNX Runtime does not have yet are declared with an earlier one, if their operators allow.
EARLIEST_OPSET = 18
MUTATED = {"census", "example", "node", "random"}


class DoesNotLoad(Exception):
    pass


def loadable_opset(model):
    """The newest opset, up to the model's own, with which ONNX Runtime loads the model."""
    imported = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = imported[0].version if imported else EARLIEST_OPSET
    failure = None
    for version in range(newest, min(newest, EARLIEST_OPSET) - 1, -1):
        for entry in imported:
            entry.version = version
        try:
            load(model)
            return version
        except Exception as error:
            failure = failure or error
    raise DoesNotLoad(str(failure))


def admitted(source, index, mutants, seed):
    """The opset with which a graph loads, and mutants of it; or why it does not load."""
    try:
        opset = loadable_opset(source.model)
    except DoesNotLoad as error:
        return None, str(error)
    inputs = source.inputs()
    if source.origin not in MUTATED or not any(entry["rows"] for entry in inputs):
        return opset, []
    rng = np.random.default_rng([seed, zlib.crc32(source.name.encode())])
    # Each graph starts with another kind, so that all of them are used.
    kinds = list(KINDS)[index % len(KINDS) :] + list(KINDS)[: index % len(KINDS)]
    made = []
    while len(made) < mutants:
        try:
            made.append(mutant(source.model, inputs, source.recorded, kinds, rng))
        except NoMutant:
            break
        kinds.remove(made[-1].kind)
    return opset, made


def made_sources(arguments):
    """The random graphs and the written ones; ONNX Runtime types them, so that workers make them."""
    tasks = [(random_graph, (number, arguments.seed)) for number in range(arguments.random)]
    tasks += [(written_graph, (number, arguments.seed)) for number in range(len(WRITTEN))]
    outcomes = workers.run(lambda make, task: make(*task), tasks, arguments.jobs, TIMEOUT)
    return [source for _, state, source in sorted(outcomes, key=lambda each: each[0]) if state == "done"]


def write_all(sources, arguments, writer):
    """Writes the graphs that load, and their mutants. A graph whose mutation crashes is written without any."""

    def admit(index, mutants):
        return admitted(sources[index], index, mutants, arguments.seed)

    found = {}
    for mutants in (arguments.mutants, 0):
        left = [(index, mutants) for index in range(len(sources)) if found.get(index) is None]
        for at, state, result in workers.run(admit, left, arguments.jobs, TIMEOUT):
            found[left[at][0]] = result if state == "done" else None
    for index, source in enumerate(sources):
        opset, mutants = found[index] or (None, "ONNX Runtime crashes or hangs")
        if opset is None:
            writer.skip(source, mutants)
            continue
        for entry in source.model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = opset
        parent = writer.add(source)
        for each in mutants:
            writer.add_mutant(parent, each)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="directory to write to")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", type=int, default=200, help="number of random graphs")
    parser.add_argument("--mutants", type=int, default=1, help="mutants of each graph")
    parser.add_argument("--census", type=Path, help="directory of NAME.onnx with NAME.json")
    parser.add_argument("--packages", type=Path, nargs="*", default=[], help="directories with packages below them")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()

    start = time.monotonic()
    sources = list(census(arguments.census)) if arguments.census else []
    sources += packages(arguments.packages)
    sources += node_models()
    sources += made_sources(arguments)
    writer = Writer(arguments.out)
    write_all(sources, arguments, writer)
    writer.finish(arguments.seed)
    counts = Counter(entry["origin"] for entry in writer.graphs)
    print(", ".join(f"{count} {origin}" for origin, count in counts.items()), end="; ")
    print(f"{len(writer.skipped)} skipped, {time.monotonic() - start:.0f} s")
    for entry in writer.skipped:
        print(f"skipped {entry['origin']} {entry['name']}: {entry['reason'][:160]}")


if __name__ == "__main__":
    main()
