"""Random bodies of CSV: the words that pandas reads in its own way, and the ways to lay out a file."""

from values import Request, table

CSV_WORDS = [
    "", "", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "NULL", "null", "None", "#N/A", "<NA>", "1.#IND", "inf", "-inf", "Infinity",
    "true", "TRUE", "True", "False", "false", "yes", "0", "1", "1.0", "1.9", "1e3", "1E400", "007", "+5", "-0", " 5", "5 ", " NA",
    '"1,5"', '"5"', '""', '"NA"', '"a""b"', '"a\nb"', '"a"b', 'a"b', "'a'", "1_000", "0x10", "٣", "3000000000", "-3000000000",
    "9223372036854775807", "9223372036854775808", "1e39", "1" * 40, "0." + "3" * 25, "abc", "é", "1.5.2", "e5", ".5", "5.", "--1",
    "1,000", "2024-05-01", "#x", "\\N", "\t5", "1e-320", "4.35", "2.2250738585072011e-308",
]  # fmt: skip


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
