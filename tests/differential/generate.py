"""Random requests for a model: mostly right, with a few things wrong, so that they reach deep into the decoder.

`generate(model, random)` gives a `Request`. What is random comes from the given `random.Random` only.
"""

import json
import re
from dataclasses import dataclass, field

JSON_TYPE = "application/json"


@dataclass
class Column:
    """One input as a request sees it. `shape` is `None` for a column of a table."""

    name: str | None
    type: str
    shape: tuple | None = None
    required: bool = True


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

CSV_WORDS = [
    "", "", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "NULL", "null", "None", "#N/A", "<NA>", "1.#IND", "inf", "-inf", "Infinity",
    "true", "TRUE", "True", "False", "false", "yes", "0", "1", "1.0", "1.9", "1e3", "1E400", "007", "+5", "-0", " 5", "5 ", " NA",
    '"1,5"', '"5"', '""', '"NA"', '"a""b"', '"a\nb"', '"a"b', 'a"b', "'a'", "1_000", "0x10", "٣", "3000000000", "-3000000000",
    "9223372036854775807", "9223372036854775808", "1e39", "1" * 40, "0." + "3" * 25, "abc", "é", "1.5.2", "e5", ".5", "5.", "--1",
    "1,000", "2024-05-01", "#x", "\\N", "\t5", "1e-320", "4.35", "2.2250738585072011e-308",
]  # fmt: skip


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
    if kind == "array":
        return [round(random.uniform(0, 9), 2) for _ in range(random.randint(0, 3))]
    if kind in ("object", "map"):
        return {"a": 1.5, "b": 2.5}
    if kind == "any":
        return random.choice([1, "x", [1], None])
    return random.randint(0, 100)


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


def split_body(model, random, labels):
    names, cells = table(model, random, labels)
    body = {"columns": names, "data": cells}
    change = random.choice([None] * 8 + SPLIT_CHANGES)
    if change:
        labels.append(change.__name__)
        body = change(body, random)
    return {"dataframe_split": body}


def drop_column(body, random):
    if body["columns"]:
        at = random.randrange(len(body["columns"]))
        body["columns"] = body["columns"][:at] + body["columns"][at + 1 :]
        body["data"] = [row[:at] + row[at + 1 :] for row in body["data"]]
    return body


def extra_column(body, random):
    body["columns"] = [*body["columns"], random.choice(["extra", "", 5, "predictions"])]
    body["data"] = [[*row, random.choice(ODD)] for row in body["data"]]
    return body


def shuffle_columns(body, random):
    order = list(range(len(body["columns"])))
    random.shuffle(order)
    body["columns"] = [body["columns"][at] for at in order]
    body["data"] = [[row[at] for at in order] for row in body["data"]]
    return body


def no_columns(body, random):
    return {"data": body["data"]} if random.random() < 0.8 else {**body, "columns": None}


def odd_columns(body, random):
    columns = body["columns"]
    choice = random.choice(["duplicate", "case", "short", "long", "scalar", "numbers", "empty", "nested", "nulls"])
    body["columns"] = {
        "duplicate": columns[:1] * len(columns),
        "case": [str(name).upper() for name in columns],
        "short": columns[:-1],
        "long": [*columns, "more"],
        "scalar": random.choice(["a", 3, True]),
        "numbers": list(range(len(columns))),
        "empty": [],
        "nested": [columns],
        "nulls": [None] * len(columns),
    }[choice]
    return body


def with_index(body, random):
    rows = len(body["data"])
    indices = [list(range(rows)), list(range(rows + 1)), list(range(max(rows - 1, 0))), ["r"] * rows, None, [], 5, {}]
    return {**body, "index": random.choice(indices)}


def odd_data(body, random):
    data = body["data"]
    choices = [{}, None, 5, "abc", [[]], [None], data[:1] + [[]], [row[:-1] for row in data], [row + [1] for row in data],
               data + [[1]], data + [None], data + [5], [1, 2], {str(n): [1.0, 2.0] for n in body["columns"]},
               [dict(zip(map(str, body["columns"]), row)) for row in data], [[row] for row in data]]  # fmt: skip
    return {**body, "data": random.choice(choices)}


def odd_split(body, random):
    return random.choice([[1], None, 5, "x", [], {}, {"columns": body["columns"]}, {**body, "more": 1}, {"data": body["data"], "name": 1}])


SPLIT_CHANGES = [drop_column, extra_column, shuffle_columns, no_columns, odd_columns, with_index, odd_data, odd_split]


def records(model, random, labels):
    names, cells = table(model, random, labels)
    rows = [dict(zip(map(str, names), row)) for row in cells]
    if rows and random.random() < 0.35:
        change = random.choice(["missing key", "key missing everywhere", "extra key", "other order", "odd record", "case"])
        labels.append(change)
        row = random.choice(rows)
        key = random.choice(list(row) or ["a"])
        if change == "missing key":
            row.pop(key, None)
        elif change == "key missing everywhere":
            rows = [{k: v for k, v in each.items() if k != key} for each in rows]
        elif change == "extra key":
            row[random.choice(["extra", "", "index"])] = random.choice(ODD)
        elif change == "other order":
            rows = [dict(sorted(each.items(), key=lambda _: random.random())) for each in rows]
        elif change == "odd record":
            rows[random.randrange(len(rows))] = random.choice([None, 5, [1.0], [], "x", {}])
        else:
            rows = [{k.upper(): v for k, v in each.items()} for each in rows]
    return rows


def records_body(model, random, labels):
    if random.random() < 0.07:
        labels.append("odd records")
        return {"dataframe_records": random.choice([{}, None, 3, "x", [], [1, 2], [[1.0, 2.0]], [[]], [None], [[1], [1, 2]]])}
    return {"dataframe_records": records(model, random, labels)}


def tensor(column, random, shape):
    """Nested lists of the shape; a free axis has any length."""
    if not shape:
        return good(column, random, 0)
    length = random.choice([1, 2, 3]) if shape[0] < 0 else shape[0]
    return [tensor(column, random, shape[1:]) for _ in range(length)]


def batched(column, random, rows, labels):
    """A tensor or a column with this many rows, sometimes odd in a cell or in its shape."""
    shape = column.shape if column.shape is not None else (-1,)
    shape = tuple(rows if axis < 0 else axis for axis in shape)
    if random.random() < 0.12 and shape:
        labels.append("other shape")
        shape = random.choice([shape[1:], (*shape, 1), (1, *shape), (*shape[:-1], shape[-1] + 1), (0, *shape[1:]), (rows + 1, *shape[1:])])
    value = tensor(column, random, shape)
    if random.random() < 0.35:
        value = spoil_tensor(value, random, labels)
    return value


def spoil_tensor(value, random, labels):
    """Replaces one leaf, or one branch: then it is ragged."""
    pool = random.choice([ODD, NUMBERS, TEXTS, [None, True, 1, 1.5, "1"]])
    if not isinstance(value, list) or not value:
        odd = random.choice(pool)
        labels.append(f"odd leaf {kind_of(odd)}")
        return odd
    at = random.randrange(len(value))
    if random.random() < 0.05:
        labels.append("ragged")
        value[at] = random.choice([[], 1.0, None, [[1.0]], {}])
    else:
        value[at] = spoil_tensor(value[at], random, labels)
    return value


def tensors(model, random, labels):
    """The value of `inputs` or `instances`."""
    rows = random.choice([0, 1, 1, 2, 2, 3])
    named = [column for column in model.inputs if column.name is not None]
    form = random.random()
    if form < 0.04:
        labels.append("odd tensors")
        return random.choice([*ODD, [[]], [[1.0, 2.0], [3.0]], [{}, {}], [{"a": 1}, {"b": 1}]])
    if form < 0.2:
        labels.append("list of objects")
        if random.random() < 0.5:
            return records(model, random, labels)
        one = [c if c.shape is None else Column(c.name, c.type, c.shape[1:]) for c in named]
        return [{c.name: batched(c, random, 1, labels) if c.shape is not None else cell(c, random, 0) for c in one} for _ in range(rows)]
    if form < 0.45 or not named:
        labels.append("plain")
        column = random.choice(model.inputs)
        if column.shape is None and random.random() < 0.8:
            _, cells = table(model, random, labels)
            return cells if random.random() < 0.8 else cells[0] if cells else cells
        return batched(column, random, rows, labels)
    value = {column.name: batched(column, random, rows, labels) for column in named}
    if random.random() < 0.2:
        labels.append("other names")
        key = random.choice(list(value))
        value = random.choice([{k: v for k, v in value.items() if k != key}, {**value, "extra": [1.0]}, {k.upper(): v for k, v in value.items()}])
    if random.random() < 0.06 and value:
        labels.append("scalar input")
        value[random.choice(list(value))] = random.choice(ODD)
    return value


def params(model, random, labels):
    labels.append("params")
    if random.random() < 0.12:
        return random.choice([None, [], {}, 3, "x", True, [1]])
    found = {}
    for param in model.params:
        if random.random() < 0.5:
            shape = param.get("shape")
            value = random.choice([param["default"], *ODD])
            found[param["name"]] = [value] if shape and random.random() < 0.8 else value
    if random.random() < 0.3:
        found[random.choice(["unknown", ""])] = random.choice(ODD)
    return found


def csv_request(model, random):
    labels = ["csv"]
    names, cells = table(model, random, [])
    names = list(map(str, names))
    lines = [[csv_cell(value) for value in row] for row in cells]
    if lines and random.random() < 0.7:
        column = random.randrange(len(names)) if names else 0
        for _ in range(random.choice([1, 1, 2, 4])):
            row = random.choice(lines)
            at = column if random.random() < 0.7 else random.randrange(len(names))
            row[at] = random.choice(CSV_WORDS)
            labels.append("odd word")
    header = [f'"{name}"' if "," in name or random.random() < 0.05 else name for name in names]
    text = csv_layout(header, lines, random, labels)
    body = text.encode()
    if random.random() < 0.04:
        labels.append("bytes")
        body = random.choice([b"\xef\xbb\xbf" + body, body + b"\xff", b"", b"\n", b" \n", b"\n\n" + body, text.encode("utf-16"), b"\x00", body + b"\x00"])
    return Request(random.choice(["text/csv"] * 9 + ["text/csv; charset=utf-8"]), body, labels)


def csv_cell(value):
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text


def csv_layout(header, lines, random, labels):
    change = random.choice([None] * 10 + ["crlf", "cr", "no final newline", "blank lines", "spaces", "semicolons", "tabs", "index", "reordered",
                                          "missing column", "extra column", "long rows", "one long row", "short row", "trailing commas",
                                          "duplicate header", "no header", "quotes", "comment", "open quote", "header case", "blank header"])  # fmt: skip
    if change:
        labels.append(change)
    at = random.randrange(len(header)) if header else 0
    if change == "index":
        header, lines = ["", *header], [[str(n), *line] for n, line in enumerate(lines)]
    elif change == "reordered":
        header, lines = header[::-1], [line[::-1] for line in lines]
    elif change == "missing column":
        header, lines = header[:at] + header[at + 1 :], [line[:at] + line[at + 1 :] for line in lines]
    elif change == "extra column":
        header, lines = [*header, "extra"], [[*line, random.choice(CSV_WORDS)] for line in lines]
    elif change == "long rows":
        lines = [[random.choice(["0", "x"]), *line] for line in lines]
    elif change == "one long row" and lines:
        lines[-1] = [*lines[-1], random.choice(["9", "", "x"])]
    elif change == "short row" and lines:
        lines[-1] = lines[-1][:-1]
    elif change == "trailing commas":
        lines = [[*line, ""] for line in lines]
    elif change == "duplicate header":
        header = [header[0], *header] if header else header
        lines = [[line[0], *line] for line in lines]
    elif change == "header case":
        header = [name.upper() for name in header]
    elif change == "blank header" and header:
        header[at] = ""
    elif change == "quotes":
        lines = [['"' + word.strip('"').replace('"', '""') + '"' for word in line] for line in lines]
    separator = {"spaces": ", ", "semicolons": ";", "tabs": "\t"}.get(change, ",")
    end = {"crlf": "\r\n", "cr": "\r"}.get(change, "\n")
    rows = [separator.join(line) for line in ([] if change == "no header" else [header]) + lines]
    if change == "blank lines":
        rows.insert(random.randint(0, len(rows)), random.choice(["", " ", "\t", ",", '""']))
    if change == "comment":
        rows.insert(0, "# a comment")
    text = end.join(rows) + ("" if change == "no final newline" else end)
    return text + '"open' if change == "open quote" else text


def envelope(body, random, labels):
    """Changes the outermost object."""
    change = random.choice(["extra key", "two formats", "no format", "llm key", "not an object", "key case"])
    labels.append(change)
    if change == "extra key":
        return {"signature_name": random.choice(ODD), **body, "extra": random.choice(ODD)}
    if change == "two formats":
        return {**body, random.choice(["inputs", "instances", "dataframe_records"]): [[1.0]]}
    if change == "no format":
        return random.choice([{}, {"data": [[1.0]]}, {"params": {}}, {"columns": [], "data": []}])
    if change == "llm key":
        return {random.choice(["input", "prompt", "messages"]): random.choice(ODD), **body}
    if change == "not an object":
        return random.choice([[body], *ODD])
    return {key.upper(): value for key, value in body.items()}


def damage(body, random, labels):
    """Changes the bytes of a JSON body."""
    text = body.decode("utf-8", "surrogatepass")
    at = random.randint(0, len(text))
    change = random.choice(["cut", "insert", "delete", "tail", "bytes", "token", "whitespace", "duplicate key", "nesting", "empty"])
    labels.append(change)
    if change == "cut":
        return body[:at]
    if change == "insert":
        return (text[:at] + random.choice(list('{}[]",:\\ 0e.-+x\n\t\x01é')) + text[at:]).encode("utf-8", "surrogatepass")
    if change == "delete":
        return (text[:at] + text[at + 1 :]).encode("utf-8", "surrogatepass")
    if change == "tail":
        return body + random.choice([b" \r\n\t", b"x", b"{}", b"\x00", b",", b"// c", b"\x0b"])
    if change == "bytes":
        return random.choice([b"\xef\xbb\xbf" + body, body.replace(b"1", b"\xff"), text.encode("utf-16", "surrogatepass"), body.replace(b"a", b"\xc3")])
    if change == "token":
        tokens = ["NaN", "-NaN", "+1", "01", "1.", ".5", "1e", "1e+", "-", "0x1", "nan", "Inf", "-Infinity", "True", "None", "'a'", '"\\x"', '"\\u12"', '"\t"', "1_0", "1 2", "tru", "--1", "00", "-01"]
        return re.sub(r"(?<=[\[ :])-?\d+(\.\d+)?(?=[,\]}])", lambda _: random.choice(tokens), text, count=1).encode("utf-8", "surrogatepass")
    if change == "whitespace":
        return text.replace(",", random.choice(["\n,\r\n", "\t, ", " ,\xa0"])).encode("utf-8", "surrogatepass")
    if change == "duplicate key":
        return body[:-1] + b", " + body[1:] if len(body) > 2 else body
    if change == "nesting":
        depth = random.choice([50, 300])
        return b'{"inputs": ' + b"[" * depth + b"1.0" + b"]" * depth + b"}"
    return random.choice([b"", b" ", b"{", b"null", b"[]", b"\x00"])


CONTENT_TYPES = [
    None, "", "text/plain", "application/json; charset=latin-1", "application/json; format=pandas-split", "application/json;charset=UTF-8",
    "application/json; charset=utf-8", "application/jsonl", "APPLICATION/JSON", "application/json;", 'application/json; charset="utf-8"',
    "text/csv", "application/json ; charset=utf-8", "application/json; charset=utf-8; q=1", "*/*", "charset=utf-8",
]  # fmt: skip


def generate(model, random):
    if random.random() < 0.25:
        return csv_request(model, random)
    make = random.choice([split_body, records_body, tensors, tensors, tensors])
    if make is tensors:
        labels = [random.choice(["inputs", "inputs", "instances"])]
        body = {labels[0]: tensors(model, random, labels)}
    else:
        labels = [make.__name__]
        body = make(model, random, labels)
    if random.random() < (0.4 if model.params else 0.04):
        body["params"] = params(model, random, labels)
    if random.random() < 0.05:
        body = envelope(body, random, labels)
    data = dump(body, random)
    if random.random() < 0.07:
        data = damage(data, random, labels)
    content_type = JSON_TYPE
    if random.random() < 0.03:
        content_type = random.choice(CONTENT_TYPES)
        labels.append(f"content type {content_type}")
    return Request(content_type, data, labels)
