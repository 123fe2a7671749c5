"""How far the graph's answers are from the library's, and which differences are those of rounding at a threshold."""

from __future__ import annotations

from typing import Any

from onstage._convert.layout import FLOATS, Layout
from onstage._convert.original import Answer, Original

TOLERANCE = 1e-5
# How often each row that differs is moved, and how many rows may be at a cut point.
MOVES = 32
CUT_POINTS = 0.03
SHOWN = 10


def seen_by_graph(layout: Layout, frame: Any) -> Any:
    """The rows with their floating-point numbers rounded to float32, which is what a graph gets."""
    import numpy as np

    if layout.inner == "tensor":
        return frame
    frame = frame.copy()
    for at, column in enumerate(layout.columns):
        if column.kind in FLOATS:
            values = frame.iloc[:, at]
            frame.isetitem(at, values.astype(np.float32).astype(values.dtype))
    return frame


def moved(layout: Layout, frame: Any, random: Any) -> Any:
    """The rows with each float feature one or two steps of float32 up or down; an exact zero stays."""
    import numpy as np

    frame = frame.copy()
    for at, column in enumerate(layout.columns):
        if column.kind not in FLOATS:
            continue
        values = frame.iloc[:, at].to_numpy(np.float32)
        steps = random.choice([1, 2], len(values))
        towards = random.choice([-np.inf, np.inf], len(values)).astype(np.float32)
        found = np.nextafter(values, towards)
        found = np.where(steps == 2, np.nextafter(found, towards), found)
        found = np.where((values == 0) | ~np.isfinite(values), values, found)
        frame.isetitem(at, found.astype(frame.dtypes.iloc[at]))
    return frame


def differing(want: Answer, got: Answer, tolerance: float = TOLERANCE) -> Any:
    """Which rows differ: another label, or a number off by more than `tolerance`·max(1, |number|)."""
    import numpy as np

    over: Any = np.zeros(len(want.labels if want.labels is not None else want.numbers), bool)
    if want.labels is not None:
        over |= ~same_labels(want.labels, got.labels)
    if want.numbers is not None:
        over |= (difference(want, got) > tolerance).any(axis=1)
    return over


def same_labels(want: Any, got: Any) -> Any:
    """Which labels are equal, a number that the graph holds as text included."""
    import numpy as np

    return np.array([a == b or str(a) == str(b) for a, b in zip(want, got, strict=True)], bool)


def difference(want: Answer, got: Answer) -> Any:
    """|Δ| / max(1, |y|) of each number; infinite where one of the two is missing."""
    import numpy as np

    if want.numbers.shape != got.numbers.shape:
        return np.full(want.numbers.shape, np.inf)
    with np.errstate(invalid="ignore"):
        found = np.abs(got.numbers - want.numbers) / np.maximum(1.0, np.abs(want.numbers))
    found[(np.isnan(got.numbers) & np.isnan(want.numbers)) | (got.numbers == want.numbers)] = 0.0
    return np.nan_to_num(found, nan=np.inf, posinf=np.inf)


def compare(original: Original, layout: Layout, frame: Any, got: Answer) -> dict[str, Any]:
    """The report: the content of `parity.json`."""
    import numpy as np

    rounded = seen_by_graph(layout, frame)
    want = original.predict(rounded)
    over = np.flatnonzero(differing(want, got))
    # A model that differs everywhere needs no second look.
    refused = over if len(over) > len(frame) / 2 else unexcused(original, layout, rounded, got, over)
    cut = np.setdiff1d(over, refused)
    kept = np.setdiff1d(np.arange(len(frame)), cut)
    report = figures(want[kept], got[kept])
    report = {
        "rows": len(frame),
        "tolerance": TOLERANCE,
        **({} if want.labels is None else {"labels_agree": int(same_labels(want.labels, got.labels).sum())}),
        "max_difference": report["max_difference"],
        "cut_points": len(cut),
        "refused_rows": [shown(layout, frame, int(row), want, got) for row in refused[:SHOWN]],
        "refused": len(refused),
        "on_the_original": figures(original.predict(frame), got),
    }
    report["accepted"] = not len(refused) and len(cut) <= CUT_POINTS * len(frame)
    return report


def unexcused(original: Original, layout: Layout, rounded: Any, got: Answer, over: Any) -> Any:
    """The rows to which the graph says what the library says to none of the moved rows."""
    import numpy as np

    random = np.random.default_rng(0)
    left = over
    movable = layout.inner != "tensor" and any(column.kind in FLOATS for column in layout.columns)
    for _ in range(MOVES if movable else 0):
        if not len(left):
            break
        there = moved(layout, rounded.iloc[left].reset_index(drop=True), random)
        left = left[differing(original.predict(there), got[left])]
    return left


def figures(want: Answer, got: Answer) -> dict[str, Any]:
    """Labels that agree, and the largest difference in units of the number."""
    import numpy as np

    found: dict[str, Any] = {}
    if want.labels is not None:
        found["labels_agree"] = int(same_labels(want.labels, got.labels).sum())
    found["max_difference"] = None
    if want.numbers is not None and want.numbers.shape == got.numbers.shape and len(want.numbers):
        largest = float(np.nanmax(np.abs(got.numbers - want.numbers), initial=0.0))
        found["max_difference"] = largest if np.isfinite(largest) else None
    return found


def shown(layout: Layout, frame: Any, row: int, want: Answer, got: Answer) -> dict[str, Any]:
    """One refused row: what it holds, what the library says, what the graph says."""
    values = {}
    if layout.inner != "tensor":
        values = {column.name: plain(frame.iloc[row, at]) for at, column in enumerate(layout.columns[:50])}

    def said(answer: Answer) -> Any:
        label = [] if answer.labels is None else [plain(answer.labels[row])]
        numbers = [] if answer.numbers is None else [plain(value) for value in answer.numbers[row]]
        return [*label, *numbers]

    return {"row": row, "values": values, "original": said(want), "converted": said(got)}


def plain(value: Any) -> Any:
    """A value as JSON knows it."""
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value


def summary(report: dict[str, Any]) -> str:
    """The report in one line for people."""
    parts = []
    if "labels_agree" in report:
        parts.append(f"{report['labels_agree']} of {report['rows']} labels agree")
    if report["max_difference"] is not None:
        parts.append(f"largest difference {report['max_difference']:.2g}")
    parts.append(f"{report['cut_points']} rows at cut points")
    return ", ".join(parts)


def table(report: dict[str, Any]) -> str:
    """The refused rows for people, a few of them."""
    lines = []
    for row in report["refused_rows"][:3]:
        values = ", ".join(f"{name}={value}" for name, value in list(row["values"].items())[:8])
        lines.append(f"  row {row['row']}: {values}: the original says {row['original']}, the graph {row['converted']}")
    return "\n".join(lines)
