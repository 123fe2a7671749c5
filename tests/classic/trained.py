"""Trains small models now, converts them, and writes what ONNX Runtime and the libraries answer to new rows.

    python trained.py --seed 1 --count 24 --out DIR [--only EXPRESSION]

`DIR/<n>.onnx` are the graphs and `DIR/cases.json` has a case for each batch, in the form that `support` describes; `family`
names the recipe and `estimator` what it made. An output has `library` where the library answers the same: the values in the
same order, as one list. What a converter refuses is left out and counted.
"""

import argparse
import collections
import re
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from families.registry import Draw
from recipes import RECIPES, Trained
from support import Feed, Json, Question, answers, number, once, write_cases
from threadpoolctl import threadpool_limits

BATCHES = (1, 3, 64, 1000)


def schedule(seed: int, only: str, count: int) -> list[str]:
    """The names of the recipes, mixed, each as often as its weight before any comes again."""
    names = [name for name in sorted(RECIPES) if re.search(only, name) for _ in range(RECIPES[name][1])]
    rng = np.random.default_rng(seed)
    found: list[str] = []
    while len(found) < count and names:
        found += [names[int(each)] for each in rng.permutation(len(names))]
    return found[:count]


def library_answers(trained: Trained, feed: Feed) -> list[np.ndarray | None]:
    """What the library answers; some refuse a type of input that their graphs take."""
    try:
        return trained.library(feed)
    except (TypeError, ValueError):
        return []


def with_library(case: Json, expected: list[np.ndarray | None]) -> Json:
    """Adds what the library answered, where it has as many values."""
    for output, values in zip(case.get("outputs", []), expected, strict=False):
        if values is None:
            continue
        flat = values.reshape(-1).tolist()
        size = sum(map(len, output["values"])) if output.get("kind") == "seqmap" else len(output.get("data", []))
        if size == len(flat):
            text = output.get("datatype") == "BYTES"
            output["library"] = [str(each) for each in flat] if text else [number(each) for each in flat]
    return case


def main() -> int:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="an expression that the names of the recipes match")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    started = time.monotonic()
    asked: list[Question] = []
    expected: list[list[np.ndarray | None]] = []
    refused: collections.Counter[str] = collections.Counter()
    for number_of, name in enumerate(schedule(arguments.seed, arguments.only, arguments.count)):
        draw = Draw([arguments.seed, number_of])
        # Some libraries draw from here, whatever they are given.
        np.random.seed(int(draw.rng.integers(2**31)))
        try:
            trained: Trained = RECIPES[name][0](draw)
        except Exception as error:
            refused[f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"] += 1
            continue
        file = f"{number_of}.onnx"
        (arguments.out / file).write_bytes(trained.model)
        for rows in BATCHES:
            extra = {"family": name, "estimator": trained.estimator, "batch": rows}
            feed = trained.rows(rows)
            asked.append(Question(f"{number_of}/{rows} {name}", trained.model, feed, file, extra))
            expected.append(library_answers(trained, feed))
    cases = [with_library(case, values) for case, values in zip(once(answers(asked)), expected, strict=True) if case is not None]
    write_cases(arguments.out / "cases.json", cases)
    states = collections.Counter(case.get("stage", "answered") for case in cases)
    took = time.monotonic() - started
    print(f"{arguments.count} models, {sum(refused.values())} refused, {len(cases)} cases {dict(states)}, {took:.1f} s")
    for reason, count in sorted(refused.items()):
        print(f"{count} {reason}")
    return 0


if __name__ == "__main__":
    with threadpool_limits(1):
        sys.exit(main())
