"""Tries to refute that the rows of a graph are independent, by running it.

Each row of a pool is run alone. Then batches of these rows are run, and the answer of a batch must be the answers of
its rows, in order. What differs by more than rounding refutes independence, except where the row by itself changes its
answer by as much, when its numbers move in their seventh digit: such ties are counted and shown.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np

from inputs import NO_TENSOR, SIZES, batches, pools
from runs import Failed, NotRows, Runner, differing

PERTURBATIONS = 24
COPIES = 16
REPETITIONS = 8
# Of the value, and at least of 1e-2; half-precision numbers have three digits only.
RELATIVE_STEP = {2: 1e-3, 4: 1e-6, 8: 1e-6}
LEAST_MAGNITUDE = 1e-2

INDEPENDENT, MIXING, NO_ROWS, CANNOT_RUN = "independent", "mixing", "no rows", "cannot run"


@dataclass
class Judgement:
    """What the oracle found; `feed` are the inputs of the run that refutes independence."""

    state: str
    reason: str = ""
    feed: dict | None = None
    ties: list = field(default_factory=list)
    failing_runs: int = 0


class Refuted(Exception):
    def __init__(self, reason, feed):
        super().__init__(reason)
        self.reason, self.feed = reason, feed


class Trial:
    """The runs of one graph with one pool of rows."""

    def __init__(self, runner, pool, rng):
        self.runner, self.pool, self.rng = runner, pool, rng
        self.ties = []
        self.joint_runs = self.failing_runs = 0
        self.failure = ""
        self.run_alone()

    def run_alone(self):
        """The answer of each row alone, stacked over the rows for each output."""
        answers = {}
        for row in self.pool.plain + self.pool.special:
            answer = self.answer([row])
            if isinstance(answer, Failed):
                self.failure = answer.message
            else:
                answers[row] = answer
        self.where = {row: at for at, row in enumerate(answers)}
        try:
            self.alone = [np.concatenate(output) for output in zip(*answers.values())]
        except ValueError:
            raise Refuted("the size of a row's answer depends on its values", self.pool.feed(list(answers))) from None

    def answer(self, rows):
        """The outputs for these rows; each must have as many rows."""
        feed = self.pool.feed(rows)
        try:
            answer = self.runner.run(feed)
        except NotRows as problem:
            raise Refuted(str(problem), feed) from None
        for output in [] if isinstance(answer, Failed) else answer:
            if len(output) != len(rows):
                raise Refuted(f"an output has the shape {list(output.shape)} for {len(rows)} rows", feed)
        return answer

    def run_batches(self):
        plain = [row for row in self.pool.plain if row in self.where]
        special = [row for row in self.pool.special if row in self.where]
        failing = [row for row in self.pool.plain + self.pool.special if row not in self.where]
        if plain:
            for batch in batches(plain, special, self.rng):
                self.compare(batch)
        if failing:
            self.expect_failure((plain or special)[:2] + failing[:1])
        if failing and not plain:
            for size in SIZES:
                self.expect_failure([int(row) for row in self.rng.choice(failing, size)])

    def compare(self, batch):
        """Refutes, or counts the ties."""
        answer = self.answer(batch)
        feed = self.pool.feed(batch)
        if isinstance(answer, Failed):
            if not any(isinstance(self.copies(row), Failed) for row in self.pool.holding_nan & set(batch)):
                raise Refuted(f"{len(batch)} rows that run alone fail together: {answer.message}", feed)
            self.failing_runs += 1
            return
        self.joint_runs += 1
        right = [stacked[[self.where[row] for row in batch]] for stacked in self.alone]
        for expected, found in zip(right, answer):
            if expected.shape != found.shape:
                raise Refuted(f"an output has the shape {list(found.shape)}, its rows {list(expected.shape)}", feed)
        for at in different_rows(right, answer):
            if len(batch) == 1:
                raise Refuted("the same row gets another answer when it runs again", feed)
            pairs = [(expected[at : at + 1], found[at : at + 1]) for expected, found in zip(right, answer)]
            cause = self.tie(batch[at], pairs)
            if cause is None:
                raise Refuted(f"row {at} of {len(batch)} differs: {first_difference(pairs)}", feed)
            self.ties.append(f"row {at} of {len(batch)}, {cause}: {first_difference(pairs)}")

    def expect_failure(self, batch):
        """A run with a row that fails alone must fail."""
        self.failing_runs += 1
        if not isinstance(self.answer(batch), Failed):
            raise Refuted(f"rows run together though one fails alone: {self.failure}", self.pool.feed(batch))

    def tie(self, row, pairs):
        """What explains the difference, if the row by itself moves as far; else none."""
        if self.changes_from_run_to_run(row, pairs):
            return None
        unexplained = [differing(right, found) for right, found in pairs]
        for cause, moved in self.by_itself(row):
            for left, (right, found), other in zip(unexplained, pairs, moved):
                if other.shape == right.shape:
                    left &= ~moves_as_far(right, found, other)
            if not any(left.any() for left in unexplained):
                return cause
        return None

    def changes_from_run_to_run(self, row, pairs):
        """Whether the answer of the row alone is random: that explains nothing."""
        for _ in range(REPETITIONS):
            again = self.runner.run(self.pool.feed([row]))
            if isinstance(again, Failed) or any(differing(right, new).any() for (right, _), new in zip(pairs, again)):
                return True
        return False

    def by_itself(self, row):
        """Answers of the row that no other row takes part in, while its numbers or its place in memory move a little."""
        for _ in range(PERTURBATIONS):
            moved = self.runner.run(perturbed(self.pool.feed([row]), self.rng))
            if not isinstance(moved, Failed):
                yield "which moves as far by itself", moved
        copies = self.copies(row) if row in self.pool.holding_nan else None
        for at in range(COPIES if isinstance(copies, list) else 0):
            yield "whose copies differ from each other", [output[at : at + 1] for output in copies]

    def copies(self, row):
        """The answer to copies of a row.

        Those of a row that holds NaN may differ: vector and scalar instructions order NaN differently, and which of them
        meets an element depends on its address.
        """
        return self.runner.run(self.pool.feed([row] * COPIES))


def different_rows(right, answer):
    """The numbers of the rows that differ in any output."""
    found = {int(places[0]) for pair in zip(right, answer) for places in np.argwhere(differing(*pair))}
    return sorted(found)


def perturbed(feed, rng):
    """The same numbers with their seventh digit moved."""
    return {name: moved(array, rng) for name, array in feed.items()}


def moved(array, rng):
    if array.dtype.kind != "f":
        return array
    step = RELATIVE_STEP[array.dtype.itemsize] * np.maximum(np.abs(array), LEAST_MAGNITUDE)
    step[~np.isfinite(array)] = 0
    return (array + step * rng.uniform(-1, 1, array.shape)).astype(array.dtype)


def moves_as_far(right, found, moved):
    """Where a moved answer is at least as far from the right one as what was found, or equals that."""
    same = ~differing(found, moved)
    if right.dtype.kind != "f":
        return same
    with np.errstate(invalid="ignore", over="ignore"):
        return same | (np.abs(moved - right) >= np.abs(found - right))


def first_difference(pairs):
    """The first element that differs, with the values alone and together."""
    for number, (right, found) in enumerate(pairs):
        places = np.argwhere(differing(right, found))
        if len(places):
            at = tuple(places[0])
            return f"output {number} at {list(map(int, at[1:]))}: {right[at]!s} alone, {found[at]!s} together"
    return "nothing"


def judge(model, entry, recorded, seed):
    """The judgement of a graph from all draws."""
    if not any(each["rows"] for each in entry["inputs"]):
        return Judgement(NO_ROWS, "no input carries rows")
    if any(each["dtype"] == NO_TENSOR for each in entry["inputs"]):
        return Judgement(CANNOT_RUN, "an input is no tensor")
    try:
        runner = Runner(model)
    except Exception as error:
        return Judgement(CANNOT_RUN, f"does not load: {error}")
    rng = np.random.default_rng([seed, zlib.crc32(entry["file"].encode())])
    found = Judgement(INDEPENDENT)
    joint_runs, failure = 0, ""
    try:
        for pool in pools(entry["inputs"], recorded, rng):
            trial = Trial(runner, pool, rng)
            trial.run_batches()
            found.ties += trial.ties
            found.failing_runs += trial.failing_runs
            joint_runs += trial.joint_runs
            failure = failure or trial.failure
    except Refuted as refuted:
        return Judgement(MIXING, refuted.reason, refuted.feed, found.ties)
    if joint_runs == 0:
        return Judgement(CANNOT_RUN, f"every run fails: {failure}")
    return found
