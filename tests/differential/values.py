"""What requests are made of: a model's inputs as the generator sees them, and good and odd values for them."""

import json
import re
from dataclasses import dataclass, field


@dataclass
class Column:
    """One input as a request sees it. `shape` is `None` for a column of a table."""

    name: str | None
    type: str
    shape: tuple | None = None
    required: bool = True
    # MLflow's own description of an array, object or map.
    inside: object = None


@dataclass
class Model:
    name: str
    path: str
    inputs: list
    params: list
    has_signature: bool


@dataclass
class Request:
    content_type: str | None
    body: bytes
    labels: list = field(default_factory=list)


def raw(text):
    """Stands for text that goes into the JSON as it is."""
    return f"@raw:{text}@"


def dump(value, random):
    separators = random.choice([(", ", ": "), (",", ":")])
    text = json.dumps(value, separators=separators, ensure_ascii=random.random() < 0.5, default=str)
    text = re.sub(r'"@raw:(.*?)@"', lambda found: found[1], text)
    return text.encode("utf-8", "surrogatepass")


NUMBERS = [
    0, 1, -1, 2, 7, 255, 256, -129, 1.0, 1.5, 1.9, -1.9, 2.5, 0.1, 1e-7, 1e-46, 1e16, 1e21, 3.5e38, 1e39, 1e300, 65504.0,
    70000.0, 2147483647, 2147483648, -2147483648, -2147483649, 3000000000, 4294967296, 2**53 + 1, 2**63 - 1, 2**63,
    -(2**63), -(2**63) - 1, 2**64, 10**30, 9007199254740993.0, 1e18, 1700000000000000000, float("nan"), float("inf"),
    float("-inf"), raw("1e400"), raw("-1e400"), raw("-0"), raw("-0.0"), raw("1E+2"), raw("1e-400"), raw("2.50"),
]  # fmt: skip
TEXTS = [
    "", " ", "a", "abc", "2", "1.5", "1.9", " 7 ", "7\n", "1_000", "0x10", "+5", "-0", "1e3", "1e400", "NaN", "nan", "-nan",
    "inf", "-Infinity", "Infinity", "true", "True", "false", "None", "null", "NA", "<NA>", "é", "日本", "😀", "\x00", "a\x00",
    "٣", "3000000000", "9223372036854775808", "2024-05-01", "2024-05-01T12:00:00", "2024-05-01T12:00:00Z",
    "2024-05-01 12:00:00.123456", "01/02/2024", "nope", "aGVsbG8=", "aGVsbG8", "a*Gk=", "x" * 300, raw('"\\ud83d\\ude00"'),
    raw('"\\ud800"'), raw('"\\u0041\\/\\n"'),
]  # fmt: skip
NESTED = [[], [1], [1.0, 2.0], [[1]], ["a"], {}, {"a": 1}, [None], [{}]]
ODD = [None, None, True, False, *NUMBERS, *TEXTS, *NESTED]


def good(column, random, row):
    """A value of the column's type that nobody can object to."""
    kind = column.type
    if kind in ("boolean", "bool"):
        return random.random() < 0.5
    if kind in ("string", "str", "object_", "bytes"):
        return random.choice(["Berlin", "Oslo", "basic", "DE", f"t{row}"])
    if kind in ("float", "double") or kind.startswith("float"):
        return round(random.uniform(-9, 9), random.randint(1, 6))
    if kind == "binary":
        return random.choice(["aGVsbG8=", "AAEC", ""])
    if kind == "datetime" or kind.startswith("datetime"):
        return random.choice(["2024-05-01T12:00:00", "2024-05-02", "2023-12-31 23:59:59"])
    if kind in ("array", "object", "map"):
        return nested(column.inside, random)
    if kind == "any":
        return random.choice([1, "x", [1], None])
    return random.randint(0, 100)


def nested(inside, random):
    """A value of an array, object or map; now and then one that is not."""
    if random.random() < 0.04:
        return random.choice(ODD)
    if hasattr(inside, "properties"):
        wanted = [prop for prop in inside.properties if prop.required or random.random() < 0.5]
        made = {prop.name: nested(prop.dtype, random) for prop in wanted if random.random() > 0.02}
        return {**made, "more": 1} if random.random() < 0.02 else made
    if hasattr(inside, "value_type"):
        return {key: nested(inside.value_type, random) for key in random.sample("abcd", random.randint(0, 3))}
    if type(inside).__name__ == "Array":
        return [nested(inside.dtype, random) for _ in range(random.randint(0, 3))]
    return good(Column(None, getattr(inside, "name", "any")), random, 0)


def table(model, random, labels):
    """Columns and rows, some cells odd."""
    names = [column.name if column.name is not None else index for index, column in enumerate(model.inputs)]
    columns = list(model.inputs)
    if len(columns) == 1 and columns[0].shape and len(columns[0].shape) == 2 and not isinstance(names[0], str):
        columns, names = columns * max(columns[0].shape[1], 1), list(range(max(columns[0].shape[1], 1)))
    rows = random.choice([0, 1, 1, 1, 2, 2, 3, 5])
    cells = []
    for row in range(rows):
        cells.append([cell(column, random, row) for column in columns])
    if rows and random.random() < 0.6:
        spoil(cells, random, labels)
    return names, cells


def cell(column, random, row):
    """A cell of a table: a list of numbers where the input is a tensor of more than one number per row."""
    if column.shape and len(column.shape) >= 2 and column.name is not None and column.shape[1:] != (1,):
        return tensor(column, random, column.shape[1:]) if random.random() < 0.9 else good(column, random, row)
    return good(column, random, row)


def spoil(cells, random, labels):
    """Replaces some cells by odd values: single ones, or one whole column by one kind."""
    pool = random.choice([ODD, NUMBERS, TEXTS, [None, True, 1, 1.5, "1"]])
    if random.random() < 0.3:
        column = random.randrange(len(cells[0])) if cells[0] else None
        value = random.choice(pool)
        labels.append(f"odd column {kind_of(value)}")
        for row in cells:
            if column is not None:
                row[column] = value if random.random() < 0.7 else random.choice(pool)
        return
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        row = random.choice(cells)
        if row:
            value = random.choice(pool)
            labels.append(f"odd cell {kind_of(value)}")
            row[random.randrange(len(row))] = value


def kind_of(value):
    return "raw" if isinstance(value, str) and value.startswith("@raw:") else type(value).__name__


def tensor(column, random, shape):
    """Nested lists of the shape; a free axis has any length."""
    if not shape:
        return good(column, random, 0)
    length = random.choice([1, 2, 3]) if shape[0] < 0 else shape[0]
    return [tensor(column, random, shape[1:]) for _ in range(length)]
