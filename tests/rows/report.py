"""What `check.py` prints and writes: violations, exceptions, and how much of what is independent was proven."""

from collections import Counter, defaultdict

from oracle import CANNOT_RUN, INDEPENDENT, MIXING, NO_ROWS

ORIGINS = ("census", "example", "rowwise", "node", "random", "mutant", "mixing")
STATES = (INDEPENDENT, MIXING, NO_ROWS, CANNOT_RUN)

# The share of the really independent graphs that must be proven.
GOALS = {"census": 1.0, "example": 1.0, "node": 0.6}
NAMES_SHOWN = 12


def shares(results):
    """For each origin: how many graphs are in each state, and how many of the independent ones are proven."""
    table = {}
    for origin in ORIGINS:
        mine = [each for each in results if each["origin"] == origin]
        if not mine:
            continue
        row = {state: sum(each["state"] == state for each in mine) for state in STATES}
        row["total"] = len(mine)
        row["proven"] = sum(each["proven"] and each["state"] == INDEPENDENT for each in mine)
        row["share"] = row["proven"] / row[INDEPENDENT] if row[INDEPENDENT] else None
        row["goal"] = GOALS.get(origin)
        table[origin] = row
    return table


def kinds(results):
    """For each kind of mutation: how many mutants ran, and how many of them mix rows."""
    found = defaultdict(Counter)
    for each in results:
        if each["kind"]:
            found[each["kind"]]["ran"] += each["state"] in (INDEPENDENT, MIXING)
            found[each["kind"]]["mixing"] += each["state"] == MIXING
    return {kind: dict(counts) for kind, counts in sorted(found.items())}


def unproven(results):
    """The independent graphs that are not proven, by origin and by the reason of the verdict."""
    found = defaultdict(lambda: defaultdict(list))
    for each in results:
        if each["state"] == INDEPENDENT and not each["proven"]:
            found[each["origin"]][each["why_not"]].append(each["name"])
    return {origin: dict(reasons) for origin, reasons in found.items()}


def violations(results):
    """Graphs whose verdict is wrong: they mix rows, or have none that could be independent."""
    return [each for each in results if each["proven"] and each["state"] in (MIXING, NO_ROWS)]


def print_all(results):
    print_violations(results)
    print_unproven(results)
    print_measure(results)


def print_measure(results):
    """What does not depend on verdicts, and the shares."""
    print_exceptions(results)
    print_kinds(results)
    print_shares(results)


def print_violations(results):
    for each in violations(results):
        where = f" ({each['reproducer']})" if each["reproducer"] else ""
        print(f"VIOLATION {each['file']}: {each['reason'][:240]}{where}")


def print_exceptions(results):
    """Everything that was let pass, and everything that could not be tried."""
    for each in results:
        if each["ties"]:
            print(f"tie: {each['file']}: {len(each['ties'])} rows, as {each['ties'][0]}")
    runs = sum(each["failing_runs"] for each in results)
    failing = [each["name"] for each in results if each["failing_runs"]]
    print(f"{runs} runs of {len(failing)} graphs fail because a row fails alone: {listed(failing)}")
    stuck = [each["name"] for each in results if each["proven"] and each["state"] == CANNOT_RUN]
    print(f"{len(stuck)} proven graphs cannot run, so that nothing is checked: {listed(stuck)}")


def listed(names):
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def print_unproven(results):
    for origin, reasons in unproven(results).items():
        print(f"independent but not proven, {origin}:")
        for reason, names in sorted(reasons.items(), key=lambda each: -len(each[1])):
            print(f"  {len(names):4} {reason}: {listed(names)}")


def print_kinds(results):
    table = kinds(results)
    if table:
        print("mutants that mix rows, of those that run:")
    for kind, counts in table.items():
        never = "" if counts["mixing"] else "   NEVER DETECTED"
        print(f"  {kind:32} {counts['mixing']:4} of {counts['ran']:4}{never}")


def print_shares(results):
    print("origin    total  no rows  cannot run  mixing  independent  proven  share")
    for origin, row in shares(results).items():
        share = "" if row["share"] is None else f"{row['share']:.1%}"
        goal = ""
        if row["goal"] is not None and row["share"] is not None:
            goal = f"   goal {row['goal']:.0%}: {'met' if row['share'] >= row['goal'] else 'MISSED'}"
        counts = f"{row['total']:6} {row[NO_ROWS]:8} {row[CANNOT_RUN]:11} {row[MIXING]:7} {row[INDEPENDENT]:12}"
        print(f"{origin:8} {counts} {row['proven']:7} {share:>6}{goal}")


def figures(results):
    """The same for other programs."""
    return {
        "violations": [{key: each[key] for key in ("file", "reason", "reproducer")} for each in violations(results)],
        "shares": shares(results),
        "kinds": kinds(results),
        "unproven": unproven(results),
        "ties": {each["file"]: each["ties"] for each in results if each["ties"]},
        "failing_runs": {each["file"]: each["failing_runs"] for each in results if each["failing_runs"]},
        "cannot_run": {each["file"]: each["reason"] for each in results if each["state"] == CANNOT_RUN},
    }
