"""Writes what scipy says of random counts: `python fisher.py > fisher.json`; a unit test of `lifecycle::rollout` reads it."""

import json
import random

import scipy
from scipy.stats import fisher_exact

EDGES = [
    (0, 0, 0, 0), (0, 5, 0, 5), (5, 5, 0, 5), (0, 5, 5, 5), (5, 5, 5, 5), (1, 1, 0, 1), (20, 20, 0, 1980),
    (10, 20, 0, 10), (25, 500, 495, 49500), (16, 500, 495, 49500), (500, 500, 49500, 49500), (1, 100_000, 0, 10_000_000),
    (43_000, 432_000, 42_000, 432_000), (21_600, 432_000, 21_600, 432_000), (300, 100_000, 100, 90_000),
]


def cases():
    yield from EDGES
    source = random.Random(26)
    for _ in range(400):
        challenger = round(10 ** source.uniform(0, 6))
        stable = round(10 ** source.uniform(0, 6))
        rate = 10 ** source.uniform(-4, -0.1)
        worse = min(1, rate * source.choice([0.5, 1, 1, 1.2, 1.5, 3]))
        hits = round(challenger * worse * source.uniform(0.7, 1.3))
        yield min(hits, challenger), challenger, min(round(stable * rate), stable), stable


def main():
    rows = []
    for hits, of, other, other_of in cases():
        table = [[hits, of - hits], [other, other_of - other]]
        p = fisher_exact(table, alternative="greater").pvalue if of and other_of else 1.0
        rows.append(f"[{hits}, {of}, {other}, {other_of}, {json.dumps(float(p))}]")
    print('{"scipy": "%s", "cases": [\n%s\n]}' % (scipy.__version__, ",\n".join(rows)))


main()
