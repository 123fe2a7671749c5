"""Rows to compare on: those that are given, and where they are few, rows made of what the model knows."""

from __future__ import annotations

from typing import Any

from onstage._convert.known import Knowledge, knowledge
from onstage._convert.layout import FLOATS, Layout
from onstage._convert.original import Original
from onstage.errors import ConversionError

ENOUGH = 1000
MOST = 10_000


def rows(original: Original, layout: Layout, data: Any, example: Any) -> tuple[Any, int]:
    """A frame of rows, and how many of them were given."""
    import pandas as pd

    parts = [layout.frame(part) for part in (data, example) if part is not None]
    given = pd.concat(parts[:1]).head(MOST) if parts else None
    if given is not None and given.empty:
        raise ConversionError("the data hold no rows", "give rows that the model can predict: they show its parity")
    if given is not None and len(given) >= ENOUGH:
        return given, len(given)
    made = make(original, layout, given)
    if made is None:
        if given is None:
            raise ConversionError(
                "the package has no example, and no rows could be made", "give rows: `data=`, or `--data FILE.parquet`"
            )
        return given, len(given)
    found = made if given is None else pd.concat([given, made], ignore_index=True)
    return found, 0 if given is None else len(given)


def make(original: Original, layout: Layout, given: Any) -> Any:
    """A thousand rows of the model's own numbers and words; none where nothing is known of a text column."""
    import numpy as np

    random = np.random.default_rng(20)
    known = knowledge(original, layout)
    frame = base(layout, given, known, random)
    if frame is None:
        return None
    frame = layout.frame(frame)
    if not works(original, frame):
        # Texts that the model does not know, or numbers out of its range: the given rows must do.
        return None
    return missing_values(original, layout, frame, given, random)


def works(original: Original, frame: Any) -> bool:
    """Whether the library takes the rows."""
    try:
        original.predict(frame)
    except ConversionError:
        return False
    return True


def base(layout: Layout, given: Any, known: Knowledge, random: Any) -> Any:
    """Rows without missing values; none where a text column has nothing to choose from."""
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {}
    for at, column in enumerate(layout.columns):
        there = given.iloc[:, at].dropna().to_numpy() if given is not None else np.array([])
        pool = known.values.get(at, [])
        if column.kind == "string":
            choices = [*pool, *(str(value) for value in there)]
            if not choices:
                return None
            columns[column.name] = random.choice(np.array(choices, dtype=object), ENOUGH)
        elif column.kind == "boolean":
            columns[column.name] = random.choice([True, False], ENOUGH)
        else:
            columns[column.name] = numbers(column.kind, there, pool, known.cuts.get(at), random)
    return pd.DataFrame(columns)


def numbers(kind: str, there: Any, pool: list[Any], cuts: Any, random: Any) -> Any:
    """Numbers in the range of the example and of the thresholds, some zeros, a few at thresholds."""
    import numpy as np

    if pool and kind not in FLOATS:
        return random.choice(np.array(pool, dtype=np.int64), ENOUGH)
    cuts = np.array([] if cuts is None else cuts, dtype=float)
    marks = np.concatenate([np.asarray(there, dtype=float), cuts, np.array(pool, dtype=float)])
    marks = marks[np.isfinite(marks)]
    if not len(marks):
        marks = np.array([-2.0, 0.0, 2.0])
    low, high = float(marks.min()), float(marks.max())
    spread = (high - low) or max(abs(high), 1.0)
    found = random.uniform(low - spread / 10, high + spread / 10, ENOUGH)
    near = random.random(ENOUGH) < 0.5
    found[near] = random.choice(marks, int(near.sum())) + random.normal(0, spread / 50, int(near.sum()))
    found[random.random(ENOUGH) < 0.02] = 0.0
    if low >= 0:
        found = np.abs(found)
    if len(cuts):
        # On both sides of a few thresholds, as near as float32 comes.
        at = random.choice(ENOUGH, 6, replace=False)
        exact = random.choice(cuts, 6).astype(np.float32)
        found[at] = np.where(np.arange(6) % 2, np.nextafter(exact, np.float32(np.inf)), exact)
    return found if kind in FLOATS else np.round(found).astype(np.int64)


def missing_values(original: Original, layout: Layout, frame: Any, given: Any, random: Any) -> Any:
    """A tenth of the numbers missing, in the columns where the library takes that."""
    import numpy as np

    for at, column in enumerate(layout.columns):
        if column.kind not in FLOATS and not (column.kind == "string" and given is not None and given.iloc[:, at].isna().any()):
            continue
        trial = frame.head(4).copy()
        trial.isetitem(at, np.full(4, np.nan))
        if works(original, trial.astype({column.name: frame.dtypes.iloc[at]})):
            values = frame.iloc[:, at].copy()
            values[random.random(len(frame)) < 0.1] = np.nan
            frame.isetitem(at, values)
    return frame
