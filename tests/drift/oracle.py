"""oracle.py BASELINE REFERENCE WINDOW REPORT: calculates again what the monitor said of WINDOW.

BASELINE is the file that `onstage baseline` made of REFERENCE (CSV), and REPORT what `/drift` and `/metrics` say.
"""

import json
import sys

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import chi2

FLOOR = 1e-4


def near(found, expected, what, tolerance=1e-9):
    assert np.allclose(found, expected, rtol=tolerance, atol=tolerance), (what, found, expected)


def column(frame, name):
    """A column, or the score that the graph gives back, as the graph gets it."""
    values = frame[frame.columns[frame.columns.str.contains("prob")][0]] if name == "prediction" else frame[name]
    if values.dtype == bool:
        return values.astype(float)
    return values.astype(np.float32).astype(float) if pd.api.types.is_numeric_dtype(values) else values


def histogram(feature, values):
    """Counts of bins, in the order of the labels, and the labels."""
    numbers = feature.get("numerical_statistics")
    if numbers:
        buckets = numbers["distribution"]["kll"]["buckets"]
        edges = np.array([bucket["lower_bound"] for bucket in buckets] + [buckets[-1]["upper_bound"]])
        assert (np.diff(edges) >= 0).all() and (edges == edges.astype(np.float32)).all(), "bounds lie on singles"
        counts, _ = np.histogram(values, edges)
        outside = [(values < edges[0]).sum(), (values > edges[-1]).sum(), 0, 0]
        return [*counts, *outside], [*map(str, range(len(counts))), "below", "above", "missing", "nan"]
    buckets = feature["string_statistics"]["distribution"]["categorical"]["buckets"]
    known = [bucket["value"] for bucket in sorted(buckets, key=lambda bucket: -bucket["count"])]
    first = known[:20]
    counts = [(values == value).sum() for value in first]
    counts += [values.isin(known[20:]).sum(), (~values.isin(known)).sum(), 0]
    return counts, [*map(str, range(len(first))), "other", "unseen", "missing"]


def check_baseline(features, reference):
    for feature in features:
        counts, labels = histogram(feature, column(reference, feature["name"]))
        statistics = feature.get("numerical_statistics") or feature["string_statistics"]
        kept = statistics["distribution"]
        kept = kept.get("kll") or kept["categorical"]
        near([bucket["count"] for bucket in kept["buckets"]][:20], counts[: min(len(kept["buckets"]), 20)], feature["name"])
        assert statistics["common"] == {"num_present": len(reference), "num_missing": 0}, feature["name"]
        if "numerical_statistics" in feature:
            values = column(reference, feature["name"])
            found = [statistics[word] for word in ("mean", "sum", "std_dev", "min", "max")]
            near(found, [values.mean(), values.sum(), values.std(ddof=0), values.min(), values.max()], feature["name"], 1e-6)
            # Ten bins of equal size, as far as values differ.
            shares = np.array(counts[: labels.index("below")]) / len(reference)
            assert len(np.unique(values)) < 200 or np.abs(shares - 0.1).max() < 0.02, (feature["name"], shares)


def check_accuracy(baseline, reference):
    kept = baseline["onstage"]["accuracy"]
    (output,) = baseline["onstage"]["outputs"]
    score = column(reference, "prediction")
    label = reference.iloc[:, -1]
    right = (score >= 0.5).astype(int) == label.astype(int)
    near(kept["overall"], right.mean(), "accuracy")
    buckets = output["numerical_statistics"]["distribution"]["kll"]["buckets"]
    edges = [bucket["lower_bound"] for bucket in buckets] + [buckets[-1]["upper_bound"]]
    all_of, right_of = np.histogram(score, edges)[0], np.histogram(score[right], edges)[0]
    near(kept["by_bin"], right_of / all_of, "accuracy by bin")
    return right_of / all_of, edges


def main():
    baseline, reference, window, report = sys.argv[1:]
    baseline, report = json.load(open(baseline)), json.load(open(report))
    reference, window = pd.read_csv(reference), pd.read_csv(window)
    features = baseline["features"] + baseline["onstage"]["outputs"]
    check_baseline(features, reference)
    by_bin, edges = check_accuracy(baseline, reference)
    m, n = len(reference), len(window)
    said = {feature["feature"]: feature for feature in report["features"]}
    assert set(said) == {feature["name"] for feature in features}
    for feature in features:
        name = feature["name"]
        counts, labels = histogram(feature, column(window, name))
        kept, _ = histogram(feature, column(reference, name))
        found = said[name]
        assert [bin["bin"] for bin in found["bins"]] == labels, name
        near([report["counters"][name][label] for label in labels], counts, f"counters of {name}")
        current = np.array(counts) / n
        near([bin["current"] for bin in found["bins"]], current, f"shares of {name}")
        share = np.array(kept) / m
        outside = np.isin(labels, ["below", "above", "unseen"])
        share = np.where(outside & (share == 0), 1 / (m + 1), share)
        near([bin["reference"] for bin in found["bins"]], share, f"baseline of {name}")
        p, q = np.maximum(share, FLOOR), np.maximum(current, FLOOR)
        near(found["psi"], (rel_entr(p, q) + rel_entr(q, p)).sum(), f"PSI of {name}")
        near(found["jensen_shannon"], jensenshannon(kept, counts, base=2), f"Jensen-Shannon of {name}", 1e-6)
        filled = ((np.array(kept) > 0) | (np.array(counts) > 0)).sum()
        near(found["bound"], chi2.ppf(1 - 0.001 / len(features), filled - 1) * (1 / n + 1 / m), f"bound of {name}", 1e-7)
        assert found["n"] == n and found["m"] == m, name
        drifted = found["psi"] > 0.2 and found["psi"] > found["bound"]
        assert (found["verdict"] == "drifted") == drifted, (name, found["verdict"])
    places = np.clip(np.searchsorted(edges, column(window, "prediction"), side="right") - 1, 0, len(by_bin) - 1)
    near(report["estimated_accuracy"], by_bin[places].mean(), "estimated accuracy", 1e-6)
    print(json.dumps({"estimated_accuracy": report["estimated_accuracy"]}))


if __name__ == "__main__":
    main()
