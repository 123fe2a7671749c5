"""The rule of `docs/guides/convert.md`, written down once more, and how a server is asked."""

import json
import urllib.parse
import urllib.request

import numpy as np
import onstage
import pandas as pd

KINDS = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def ask(url, name, rows, form, work):
    """The labels, if it has some, and the numbers of each row."""
    if form == "json":
        found = onstage.Client(url, model=name).predict(rows)
    else:
        path = work / "rows"
        rows = rows.astype({name: object for name in rows if isinstance(rows[name].dtype, pd.CategoricalDtype)})
        rows.to_csv(path, index=False) if form == "csv" else rows.to_parquet(path, index=False)
        address = f"{url}/models/{urllib.parse.quote(name)}/invocations"
        call = urllib.request.Request(address, path.read_bytes(), {"Content-Type": KINDS[form]})
        with urllib.request.urlopen(call, timeout=120) as response:
            found = json.load(response)["predictions"]
    return parts(found)


def parts(found):
    """Labels and numbers of an answer: of rows, or of whole outputs."""
    if isinstance(found, dict):
        numbers = [np.array(values, float).reshape(len(values), -1) for name, values in found.items() if "label" not in name]
        labels = next((np.array(values) for name, values in found.items() if "label" in name), None)
        return labels, np.concatenate(numbers, axis=1) if numbers else None
    names = list(found[0])
    label = next((name for name in names if "label" in name), None)
    others = [name for name in names if name != label]
    flat = [[v for name in others for v in (row[name].values() if isinstance(row[name], dict) else [row[name]])] for row in found]
    labels = None if label is None else np.array([row[label] for row in found])
    return labels, np.array(flat, float) if others else None


def library(model, rows):
    """The same by the model itself."""
    found = np.asarray(model.predict(rows))
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if is_regressor(last):
        return None, found.reshape(len(found), -1)
    if hasattr(model, "predict_proba"):
        return found.ravel(), np.asarray(model.predict_proba(rows))
    if hasattr(model, "score_samples"):
        return found, model.decision_function(rows).reshape(-1, 1)
    return found.ravel(), None


def is_regressor(model):
    return ("Regress" in type(model).__name__ and "Logistic" not in type(model).__name__) or type(model).__name__ == "Ridge"


def rounded(rows, steps=None, random=None):
    """The rows as float32 sees them, or one or two steps beside that; an exact zero stays."""
    if isinstance(rows, np.ndarray):
        return rounded(pd.DataFrame(rows), steps, random).to_numpy()
    rows = rows.copy()
    for name in rows.select_dtypes(["float", "Float64"]):
        given = rows[name].to_numpy(float, na_value=np.nan)
        values = given.astype(np.float32)
        if steps:
            towards = random.choice(np.array([-np.inf, np.inf], np.float32), len(values))
            found = np.nextafter(values, towards)
            found = np.where(random.random(len(values)) < 0.5, np.nextafter(found, towards), found)
            values = np.where((values == 0) | np.isnan(values), values, found)
        rows[name] = values.astype(float)
    return rows


def differ(want, got):
    """Which rows differ."""
    (labels, numbers), (found, values) = want, got
    over = np.zeros(len(found if found is not None else values), bool)
    if labels is not None:
        over |= np.array([a != b and str(a) != str(b) for a, b in zip(labels, found, strict=True)])
    if numbers is not None:
        assert values.shape == numbers.shape
        over |= (np.abs(numbers - values) > 1e-5 * np.maximum(1, np.abs(numbers))).any(axis=1)
    return over


def taken(part, rows):
    return None if part is None else part[rows]


def assert_alike(model, rows, got):
    """Equal, or equal to one of 32 moves, in at most 3 % of the rows."""
    wrong = np.flatnonzero(differ(library(model, rounded(rows)), got))
    random, left = np.random.default_rng(1), wrong
    for _ in range(32 if len(wrong) else 0):
        if not len(left):
            break
        there = library(model, rounded(rows.iloc[left] if hasattr(rows, "iloc") else rows[left], True, random))
        left = left[differ(there, tuple(taken(part, left) for part in got))]
    assert not len(left), (left[:5], rows.iloc[left[:5]] if hasattr(rows, "iloc") else rows[left[:5]])
    assert len(wrong) <= 0.03 * len(rows)
