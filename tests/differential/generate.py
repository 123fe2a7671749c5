"""Random requests for a model: mostly right, with a few things wrong, so that they reach deep into the decoder.

`generate(model, random)` gives a `Request`. What is random comes from the given `random.Random` only.
"""

import re

from csv_bodies import csv_request
from parquet_bodies import parquet_request
from values import NUMBERS, ODD, TEXTS, Column, Request, cell, dump, kind_of, table, tensor

JSON_TYPE = "application/json"


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
            rows = [{str(k).upper(): v for k, v in each.items()} for each in rows]
    return rows


def records_body(model, random, labels):
    if random.random() < 0.07:
        labels.append("odd records")
        return {"dataframe_records": random.choice([{}, None, 3, "x", [], [1, 2], [[1.0, 2.0]], [[]], [None], [[1], [1, 2]]])}
    return {"dataframe_records": records(model, random, labels)}


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
        value = random.choice([{k: v for k, v in value.items() if k != key}, {**value, "extra": [1.0]}, {str(k).upper(): v for k, v in value.items()}])
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
    if random.random() < 0.15:
        return parquet_request(model, random)
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
