"""Random looks, decided by `onstage rollout simulate` and by the rules of docs/guides/rollout.md written anew, with scipy's test.

`python oracle.py --binary PATH [--seed 1] [--files 60]` ends with 1 where the two differ.
"""

import argparse
import json
import math
import random
import subprocess
import sys
from collections import defaultdict
from datetime import datetime, timedelta, timezone

from scipy.stats import fisher_exact

STEPS = [1, 5, 25, 50]
MIN_REQUESTS = 500
MAX_DISAGREEMENT = 0.02
INTERVAL = timedelta(minutes=10)
DEADLINE = timedelta(hours=24)
START = datetime(2026, 11, 30, 10, tzinfo=timezone.utc)
# Of 1 to 8 rows: one size each.
ROWS = [1, 2, 4, 8]


def probability(challenger, stable):
    (bad, of), (stable_bad, stable_of) = challenger, stable
    if not of or not stable_of:
        return 1.0
    return fisher_exact([[bad, of - bad], [stable_bad, stable_of - stable_bad]], alternative="greater").pvalue


def share(bad, of):
    return bad / of if of else 0.0


class Counts:
    """What was counted since a step began."""

    def __init__(self):
        self.numbers = defaultdict(int)
        # By version and rows: seconds of every run.
        self.times = {version: defaultdict(list) for version in ("stable", "challenger")}

    def add(self, counts):
        for version in ("stable", "challenger"):
            for name in ("answers", "failed", "nonfinite"):
                self.numbers[version, name] += counts[version][name]
            for rows, runs in counts[version]["times"].items():
                for seconds, count in runs:
                    self.times[version][int(rows)] += [seconds] * count
        for name in ("rows", "differing"):
            self.numbers[name] += counts["compared"][name]

    def answers(self, version, name):
        return self.numbers[version, name], self.numbers[version, "answers"]

    def slow(self):
        """Of both versions: runs over 1.5 times the 99th percentile, and all runs of sizes in common."""
        found = {version: [0, 0] for version in self.times}
        for rows, stable in self.times["stable"].items():
            runs = self.times["challenger"].get(rows, [])
            if len(stable) < 100 or not runs:
                continue
            # At most one of a hundred runs is above it.
            p99 = sorted(stable, reverse=True)[len(stable) // 100]
            # The upper edge of its bucket; eight buckets make a factor of 1.5.
            edge = 1e-6 * 1.5 ** (math.ceil(math.log(p99 / 1e-6) / math.log(1.5) * 8) / 8)
            for version, times in (("stable", stable), ("challenger", runs)):
                found[version][0] += sum(seconds > 1.5 * edge for seconds in times)
                found[version][1] += len(times)
        return found["challenger"], found["stable"]

    def at_once(self):
        for gate in ("failed", "nonfinite"):
            bad, of = self.answers("challenger", gate)
            if of >= 20 and 2 * bad >= of and share(bad, of) > share(*self.answers("stable", gate)) + 0.01:
                return gate
        return None

    def gate(self, least, significance):
        if gate := self.at_once():
            return gate
        for gate in ("failed", "nonfinite"):
            challenger, stable = self.answers("challenger", gate), self.answers("stable", gate)
            worse = challenger[1] >= least and share(*challenger) > share(*stable) + 0.01
            if worse and probability(challenger, stable) < significance:
                return gate
        challenger, stable = self.slow()
        if challenger[1] >= MIN_REQUESTS and share(*challenger) > 0.02 and probability(challenger, stable) < significance:
            return "times"
        rows, differing = self.numbers["rows"], self.numbers["differing"]
        if rows >= MIN_REQUESTS and differing / rows > MAX_DISAGREEMENT:
            return "disagreement"
        return None

    def holds(self, scores):
        if self.numbers["challenger", "answers"] < MIN_REQUESTS:
            return "requests"
        if any(any(times.values()) for times in self.times.values()) and self.slow()[0][1] == 0:
            return "sizes"
        if scores and scores["psi"] > 0.2 and scores["psi"] > scores["bound"]:
            return "scores"
        return None


GATES = {"failed": "errors", "nonfinite": "nonfinite", "times": "engine_time", "disagreement": "disagreement"}


def decide(looks):
    """The word, the weight and the gate of each look."""
    step, ended, paused, passed = 0, None, False, False
    fleet, own = Counts(), Counts()
    last = began = None
    for look in looks:
        at = datetime.fromisoformat(look["at"])
        if step == 0:
            step, last, began = 1, at, at
            yield "begin", STEPS[0], None
            continue
        fleet.add(look["counts"])
        own.add(look.get("replica", look["counts"]))
        paused = {"pause": True, "resume": False}.get(look.get("order"), paused)
        if ended:
            yield "wait", 0, None
            continue
        if at - began >= DEADLINE:
            ended = "deadline"
            yield "end", 0, None
            continue
        if due := at - last >= INTERVAL:
            last, passed = at, False
            gate = fleet.gate(MIN_REQUESTS, 2e-4) or own.gate(100, 1e-5)
        else:
            gate = fleet.at_once() or own.at_once()
        if gate:
            ended = gate
            yield "end", 0, GATES[gate]
            continue
        if due:
            passed = not fleet.holds(look.get("scores"))
        if passed and not paused and look["registry_answers"] and step < len(STEPS):
            step, last, passed = step + 1, at, False
            fleet, own = Counts(), Counts()
            yield "step", STEPS[step - 1], None
            continue
        yield "wait", STEPS[step - 1], None


def counted(source, answers, rates):
    """Random counts of a version."""
    times = {}
    for rows in source.sample(ROWS, source.choice([0, 1, 2, 4])) if rates["timed"] else []:
        quick = [[round(source.lognormvariate(-6.5, rates["sigma"]), 7), source.randint(1, 40)] for _ in range(12)]
        slow = [[round(source.uniform(0.02, 0.2), 5), source.randint(0, rates["slow"])]]
        times[str(rows)] = [[seconds * rates["slower"], runs] for seconds, runs in quick + slow]
    bad = {name: min(answers, round(answers * rates[name] * source.uniform(0, 2))) for name in ("failed", "nonfinite")}
    return {"answers": answers, **bad, "times": times}


def random_looks(source):
    timed = source.random() < 0.5
    usual = {"timed": timed, "sigma": source.choice([0.1, 0.3, 0.6]), "slow": source.choice([1, 4]), "slower": 1}
    stable = {**usual, "failed": source.choice([0, 0.005, 0.03]), "nonfinite": source.choice([0, 0, 0.01])}
    challenger = dict(stable)
    match source.randrange(6):
        case 0:
            challenger["failed"] += source.choice([0.01, 0.02, 0.05, 0.6])
        case 1:
            challenger["nonfinite"] += source.choice([0.01, 0.02, 0.05, 0.6])
        case 2:
            challenger["slower"] = source.choice([1.3, 1.5, 2, 3])
        case 3:
            challenger["slow"] = source.choice([10, 40])
    requests, replicas = source.choice([40, 150, 400, 1200]), source.random() < 0.5
    differing = source.choice([0, 0.01, 0.019, 0.03])
    at, looks = START, [{"at": START.isoformat()}]
    for _ in range(source.randint(5, 40)):
        at += source.choice([INTERVAL] * 5 + [INTERVAL / 2, INTERVAL * 2, INTERVAL * 20])

        def counts(part):
            answers = round(requests * part * source.uniform(0.5, 1.5))
            rows = round(answers * source.uniform(0, 1))
            return {
                "stable": counted(source, answers * source.choice([1, 3, 20]), stable),
                "challenger": counted(source, answers, challenger),
                "compared": {"rows": rows, "differing": min(rows, round(rows * differing * source.uniform(0, 2)))},
            }

        look = {"at": at.isoformat(), "counts": counts(1), "registry_answers": source.random() > 0.1}
        if replicas:
            look["replica"] = counts(0.4)
        if source.random() < 0.1:
            look["scores"] = {"psi": source.uniform(0, 0.5), "bound": source.uniform(0, 0.3)}
        if source.random() < 0.1:
            look["order"] = source.choice(["pause", "resume", "resume"])
        looks.append(look)
    return looks


def onstage(binary, looks):
    text = "".join(json.dumps(look) + "\n" for look in looks)
    command = [binary, "rollout", "simulate", "--observations", "-", "--json", "--max-disagreement", str(MAX_DISAGREEMENT)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    rows = map(json.loads, done.stdout.splitlines())
    return [(row["action"], row["percent"], row.get("numbers", {}).get("gate")) for row in rows]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=60)
    options = parser.parse_args()
    source, seen = random.Random(options.seed), defaultdict(int)
    for number in range(options.files):
        looks = random_looks(source)
        expected, found = list(decide(looks)), onstage(options.binary, looks)
        if expected != found:
            place = next((i for i, pair in enumerate(zip(expected, found)) if pair[0] != pair[1]), len(found))
            sys.exit(f"file {number} of seed {options.seed}, look {place + 1}: expected {expected[place:][:1]}, got {found[place:][:1]}")
        for action, percent, gate in found:
            seen[gate or f"{action} at {percent} %"] += 1
    print(f"{options.files} files agree: {dict(sorted(seen.items()))}")
    missing = set(GATES.values()) - set(seen)
    if missing:
        sys.exit(f"no file was ended by {sorted(missing)}: take more files")


main()
