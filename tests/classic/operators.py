"""Writes random graphs of the operators that converted classic models use, hostile inputs, and ONNX Runtime's answers.

    python operators.py --seed 1 --count 1000 --out DIR [--only EXPRESSION]

`DIR/<n>.onnx` are the graphs and `DIR/cases.json` has a case for each run, in the form that `support` describes; `family`
names what the graph was drawn from. The same seed gives the same graphs and inputs.
"""

import argparse
import collections
import re
import sys
import time
from pathlib import Path

from families import FAMILIES, Draw
from support import Question, answers, declare_all, once, write_cases


def questions(seed: int, count: int, only: str, out: Path) -> list[Question]:
    """Draws the graphs and writes them."""
    names = [name for name in sorted(FAMILIES) if re.search(only, name)]
    weights = [FAMILIES[name][1] for name in names]
    shares = [each / sum(weights) for each in weights]
    found = []
    for number in range(count):
        draw = Draw([seed, number])
        name = names[int(draw.rng.choice(len(names), p=shares))]
        drawn = FAMILIES[name][0](draw)
        file = f"{number}.onnx"
        (out / file).write_bytes(drawn.model)
        for run, feed in enumerate(drawn.feeds):
            found.append(Question(f"{number}/{run} {name}", drawn.model, feed, file, {"family": name, **drawn.extra}))
    return found


def main() -> int:
    """Writes the folder and says how many of each family ONNX Runtime answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="an expression that the names of the families match")
    parser.add_argument("--summary", action="store_true", help="say how each family fared")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    asked = questions(arguments.seed, arguments.count, arguments.only, arguments.out)
    cases = once(answers(asked))
    declare_all(arguments.out, cases)
    write_cases(arguments.out / "cases.json", [case for case in cases if case is not None])
    fared: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for question, case in zip(asked, cases, strict=True):
        state = "left out" if case is None else case.get("stage", "answered")
        fared[question.extra["family"]][state] += 1
    total = sum(fared.values(), collections.Counter())
    print(f"{arguments.count} graphs, {len(asked)} runs, {dict(total)}, {time.monotonic() - started:.1f} s")
    if arguments.summary:
        for name in sorted(fared):
            print(f"{name:28} {dict(fared[name])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
