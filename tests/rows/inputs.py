"""Draws rows for the inputs of a graph, and batches of these rows."""

import numpy as np

# The element type of an input that is a sequence or an optional value.
NO_TENSOR = "none"

PLAIN_ROWS = 24
# Larger rows get fewer runs: one pool of so many rows.
LARGE_ROW = 4096
FEW_ROWS = 8
DRAWS = ("recorded", "normal", "small")
# Single rows run again to find answers that change from run to run.
SIZES = (1, 1, 1, 1, 2, 3, 7, 64)
OPEN_SIZES = (3, 4, 5)
WORDS = ("", "a", "B", "abc", "free prize", "the cat sat on the mat", "Ünïcode ßtraße", "42", "x y z x y")

# Rows that no range of values predicts. They take part wherever an input holds floating-point numbers.
SPECIAL = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "huge": 1e30, "zeros": 0.0}
SPECIAL_HALF = 6e4


class Pool:
    """Rows of all inputs. `plain` and `special` are the numbers of the rows; `kinds` names the special ones."""

    def __init__(self, inputs, recorded, draw, rng, count=PLAIN_ROWS):
        self.arrays = {}
        self.rows = {entry["name"] for entry in inputs if entry["rows"]}
        floats = any(entry["rows"] and np.dtype(entry["dtype"]).kind == "f" for entry in inputs)
        self.kinds = [*SPECIAL, "one nan"] if floats else []
        sizes = open_sizes(inputs, recorded, rng)
        for entry in inputs:
            self.arrays[entry["name"]] = self.array(entry, recorded.get(entry["name"]), sizes, (draw, count, rng))
        self.plain = list(range(count))
        self.special = list(range(count, count + len(self.kinds)))
        self.holding_nan = {row for row, kind in zip(self.special, self.kinds) if "nan" in kind}

    def array(self, entry, recorded, sizes, how):
        draw, count, rng = how
        if not entry["rows"]:
            return recorded if recorded is not None else constant(entry, sizes, rng)
        shape = row_shape(entry, recorded, sizes)
        plain = cells(draw, recorded, (count, *shape), entry["dtype"], rng)
        if not self.kinds:
            return plain
        return np.concatenate([plain, *[special(kind, plain[-1:], rng) for kind in self.kinds]])

    def feed(self, numbers):
        """What a run of these rows gets, in this order."""
        return {name: array[numbers] if name in self.rows else array for name, array in self.arrays.items()}


def pools(inputs, recorded, rng):
    """A pool for each way to draw."""
    size = sum(np.prod(recorded[name].shape[1:]) for name in recorded)
    if size > LARGE_ROW:
        yield Pool(inputs, recorded, DRAWS[0], rng, FEW_ROWS)
        return
    for draw in DRAWS:
        yield Pool(inputs, recorded, draw, rng)


def open_sizes(inputs, recorded, rng):
    """One number for each open size besides the rows."""
    names = {size for entry in inputs for size in entry["shape"] if not isinstance(size, int)}
    return {name: int(rng.choice(OPEN_SIZES)) for name in sorted(names, key=str)}


def row_shape(entry, recorded, sizes):
    if recorded is not None:
        return recorded.shape[1:]
    return tuple(size if isinstance(size, int) else sizes[size] for size in entry["shape"][1:])


def constant(entry, sizes, rng):
    shape = [size if isinstance(size, int) else sizes[size] for size in entry["shape"]]
    return cells("normal", None, tuple(shape), entry["dtype"], rng)


def special(kind, row, rng):
    """A row like `row` whose floating-point numbers are special; other types repeat the row."""
    if row.dtype.kind != "f":
        return row
    if kind == "one nan":
        row = row.copy()
        if row.size:
            row.reshape(-1)[rng.integers(row.size)] = np.nan
        return row
    value = SPECIAL_HALF if kind == "huge" and row.dtype == np.float16 else SPECIAL[kind]
    return np.full_like(row, value)


def cells(draw, recorded, shape, dtype, rng):
    """Values of an array of rows: like recorded ones, normally distributed, or small whole numbers."""
    dtype = np.dtype(dtype)
    usable = recorded is not None and recorded.size > 0
    if dtype.kind in "OU":
        known = recorded.reshape(-1).tolist() if usable else []
        return strings(known if draw == "recorded" and known else [*known, *WORDS], shape, rng)
    if dtype.kind == "f":
        if usable and draw == "recorded":
            return floats_like(recorded, shape, rng)
        if draw == "small":
            return rng.integers(-2, 3, shape).astype(dtype)
        return (rng.normal(size=shape) * rng.choice([0.3, 1.0, 3.0])).astype(dtype)
    return integers(draw, recorded if usable else None, shape, rng).astype(dtype)


def integers(draw, recorded, shape, rng):
    """Only values that were recorded: integers may be indices, and others may be out of range."""
    if recorded is None:
        return rng.integers(0, 4, shape)
    values = np.unique(recorded)
    if draw != "recorded":
        # Rows that are all equal show nothing.
        return rng.choice(values if len(values) > 1 else np.array([values[0], values[0] ^ 1]), shape)
    chosen = rng.choice(values, shape)
    whole = rng.random(shape[0]) < 0.5
    chosen[whole] = recorded[rng.integers(len(recorded), size=int(whole.sum()))]
    return chosen


def floats_like(recorded, shape, rng):
    """Recorded rows: some as they are, some with elements of several rows, some moved a little."""
    rows = recorded[rng.integers(len(recorded), size=shape[0])]
    mixed = rng.permuted(rows, axis=0)
    which = rng.integers(3, size=shape[0])
    rows[which == 1] = mixed[which == 1]
    moved = rows * (1 + 0.1 * rng.normal(size=shape)) + 0.05 * rng.normal(size=shape)
    rows[which == 2] = moved[which == 2].astype(rows.dtype)
    return rows


def strings(texts, shape, rng):
    """Some of the texts; some are spliced of two."""
    chosen = np.empty(shape, object)
    flat = chosen.reshape(-1)
    for at in range(flat.size):
        flat[at] = str(rng.choice(texts))
        if rng.random() < 0.2:
            other = str(rng.choice(texts))
            flat[at] = flat[at][: len(flat[at]) // 2] + other[len(other) // 2 :]
    return chosen


def batches(plain, special, rng):
    """Lists of rows to run together: several sizes, other neighbours and orders, and special rows beside plain ones."""

    def pick(size):
        return [int(row) for row in rng.choice(plain, size)]

    for size in SIZES:
        yield pick(size)
    seven = pick(7)
    yield seven
    yield [int(row) for row in rng.permutation(seven)]
    yield seven[::-1]
    for at in (0, 3, 6):
        others = pick(7)
        others[at] = seven[0]
        yield others
    for row in special:
        yield [seven[1], row]
        yield [row, row, seven[2], row]
    if special:
        mixed = pick(64)
        for at, row in zip(rng.permutation(64), special * 3):
            mixed[at] = row
        yield mixed
