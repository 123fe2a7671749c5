"""What a model knows of its columns: thresholds of trees, categories of encoders, means of scalers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from onstage._convert.layout import Layout
from onstage._convert.original import LightGbmBooster, Original, library_of

# For each feature of a step the column that it comes from, with `value = factor * column + shift`; or none.
Trail = list[tuple[int, float, float] | None]


@dataclass
class Knowledge:
    """For each column thresholds, and values that it may have."""

    cuts: dict[int, list[float]] = field(default_factory=dict)
    values: dict[int, list[Any]] = field(default_factory=dict)

    def cut(self, source: tuple[int, float, float] | None, threshold: float) -> None:
        """Remembers a threshold of a feature as one of its column."""
        if source is not None and source[1]:
            self.cuts.setdefault(source[0], []).append((threshold - source[2]) / source[1])

    def value(self, source: tuple[int, float, float] | None, found: Any) -> None:
        """Remembers a value of a column that no step has changed."""
        if source is not None and found is not None and found == found:
            self.values.setdefault(source[0], []).append(found)


def knowledge(original: Original, layout: Layout) -> Knowledge:
    """What can be found; a model that hides it is no fault."""
    known = Knowledge()
    for number, categories in original.categories.items():
        known.values[number] = list(categories)
    start: Trail = [(at, 1.0, 0.0) for at in range(len(layout.columns))]
    with contextlib.suppress(AttributeError, TypeError, ValueError, IndexError, KeyError):
        walk(original.model, start, original.names, known)
    return known


def walk(step: Any, trail: Trail, names: list[str] | None, known: Knowledge) -> Trail:
    """Follows the columns through a step; gives where its own features come from."""
    kind = type(step).__name__
    if hasattr(step, "steps"):
        for _, each in step.steps:
            if not isinstance(each, str) and each is not None:
                trail = walk(each, trail, names, known)
        return trail
    if kind == "ColumnTransformer":
        return walk_columns(step, trail, names, known)
    if hasattr(step, "vocabulary_"):
        for text in texts(step):
            known.value(trail[0], text)
        return [None] * len(step.vocabulary_)
    if kind in ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder"):
        for source, found in zip(trail, step.categories_, strict=True):
            for value in found:
                known.value(source, value.item() if hasattr(value, "item") else value)
        return trail if kind == "OrdinalEncoder" else [None] * len(step.get_feature_names_out())
    if kind == "SimpleImputer":
        return trail
    if kind == "StandardScaler":
        means = step.mean_ if step.mean_ is not None else [0.0] * len(trail)
        scales = step.scale_ if step.scale_ is not None else [1.0] * len(trail)
        for source, mean, scale in zip(trail, means, scales, strict=True):
            for times in (-2.0, 0.0, 2.0):
                known.value(source, float(mean + times * scale))
        return affine(trail, [1 / s for s in scales], [-m / s for m, s in zip(means, scales, strict=True)])
    if kind == "MinMaxScaler":
        for source, low, high in zip(trail, step.data_min_, step.data_max_, strict=True):
            known.value(source, float(low))
            known.value(source, float(high))
        return affine(trail, list(step.scale_), list(step.min_))
    for feature, threshold in thresholds(step):
        known.cut(trail[feature], threshold)
    return [None] * 10_000


def texts(step: Any) -> list[str]:
    """Texts of the words, or of the letters, that a vectorizer knows, and of some that it does not."""
    import numpy as np

    random = np.random.default_rng(5)
    by_words = step.analyzer == "word"
    words = np.array([*sorted(step.vocabulary_)[:20_000], *(["Unseen", "und", "42"] if by_words else ["zq "])], dtype=object)
    found = [(" " if by_words else "").join(random.choice(words, random.integers(1, 12))) for _ in range(300)]
    return [text.upper() if number % 5 == 0 and step.lowercase else text for number, text in enumerate(found)]


def affine(trail: Trail, factors: list[float], shifts: list[float]) -> Trail:
    """The trail behind a scaler."""
    return [
        None if source is None else (source[0], source[1] * factor, source[2] * factor + shift)
        for source, factor, shift in zip(trail, factors, shifts, strict=True)
    ]


def walk_columns(step: Any, trail: Trail, names: list[str] | None, known: Knowledge) -> Trail:
    """Each transformer with its columns; their features stand one behind the other."""
    found: Trail = []
    for name, each, columns in step.transformers_:
        where = [names.index(c) if isinstance(c, str) and names else int(c) for c in listed(columns, len(trail))]
        if not where or each == "drop":
            continue
        part = [trail[at] for at in where]
        after = part if isinstance(each, str) else walk(each, part, [names[at] for at in where] if names else None, known)
        piece = step.output_indices_[name]
        width = piece.stop - piece.start
        found += [*after[:width], *([None] * (width - len(after[:width])))]
    return found


def listed(columns: Any, width: int) -> list[Any]:
    """The columns of a transformer, one by one."""
    if isinstance(columns, (str, int)):
        return [columns]
    if isinstance(columns, slice):
        return list(range(width))[columns]
    if len(columns) and isinstance(columns[0], bool):
        return [at for at, wanted in enumerate(columns) if wanted]
    return list(columns)


def thresholds(step: Any) -> list[tuple[int, float]]:
    """The feature and threshold of each node of the trees in a step."""
    library = library_of(step) if not isinstance(step, LightGbmBooster) else "lightgbm"
    if library == "lightgbm":
        frame = step.booster_.trees_to_dataframe()
        numbers = frame[frame["decision_type"] == "<="]
        order = {name: at for at, name in enumerate(step.booster_.feature_name())}
        return [(order[name], float(cut)) for name, cut in zip(numbers["split_feature"], numbers["threshold"], strict=True)]
    if library == "xgboost":
        booster = step.get_booster()
        frame = booster.trees_to_dataframe()
        order = {name: at for at, name in enumerate(booster.feature_names or [])}
        nodes = frame[frame["Feature"] != "Leaf"]
        return [
            (order.get(name, int(name[1:]) if name[1:].isdigit() else 0), float(cut))
            for name, cut in zip(nodes["Feature"], nodes["Split"], strict=True)
        ]
    if library == "catboost":
        return [(at, cut) for at, cuts in step.get_borders().items() for cut in cuts]
    found: list[tuple[int, float]] = []
    if hasattr(step, "_predictors"):
        for tree in (tree for row in step._predictors for tree in row):
            nodes = tree.nodes[(tree.nodes["is_leaf"] == 0) & (tree.nodes["is_categorical"] == 0)]
            found += zip(map(int, nodes["feature_idx"]), map(float, nodes["num_threshold"]), strict=True)
    for tree in inner_trees(step):
        inner = tree.feature >= 0
        found += zip(map(int, tree.feature[inner]), map(float, tree.threshold[inner]), strict=True)
    return found


def inner_trees(step: Any) -> list[Any]:
    """The trees of scikit-learn in a forest, in boosting, or the step itself."""
    import numpy as np

    if hasattr(step, "tree_"):
        return [step.tree_]
    found = getattr(step, "estimators_", None)
    if found is None:
        return []
    return [each.tree_ for each in np.ravel(np.array(found, dtype=object)) if hasattr(each, "tree_")]
