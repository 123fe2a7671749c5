"""Operators between categories and numbers."""

import math
from collections.abc import Sequence

import numpy as np
from support import ML, Feed, Json, constant

from families.registry import ALL, EVERY, GRID, NUMBERS, ODD, WORDS, Draw, Sample, family, sample, words

SUFFIX = {"str": "strings", "int64": "int64s", "float32": "floats"}
DEFAULT = {"str": "default_string", "int64": "default_int64", "float32": "default_float"}


def category(d: Draw, kind: str, count: int, level: str = ODD) -> list[Json]:
    """Keys; one may come twice."""
    if kind == "str":
        return d.some(WORDS, min(count, len(WORDS))) if d.chance(0.85) else d.many(WORDS[:8], count)
    if kind.startswith("int"):
        found = d.some(range(-3, 12), count) if d.chance(0.85) else d.many(range(-2, 4), count)
        return [int(each) for each in found]
    pool = [*GRID, 4.0, 5.0, 0.1, math.inf] + ([math.nan] if level == ODD else [])
    return d.some(pool, min(count, len(pool)))


def asked(d: Draw, kind: str, keys: Sequence[Json]) -> list[Feed]:
    """Inputs of which most are known."""
    found: list[Feed] = []
    shapes = [(rows, 2) for rows in d.batches()] if d.chance(0.5) else [(rows,) for rows in d.batches()]
    if d.chance(0.1):
        shapes = [d.shape(0, 3)]
    for shape in shapes:
        if kind == "str":
            pool = [str(each) for each in keys]
            found.append({"X": d.strings(shape, pool + (WORDS if d.chance(0.5) else []))})
            continue
        known = d.rng.choice(np.array([float(each) for each in keys]), shape).astype(kind)
        other = d.data(kind, shape, ALL)
        found.append({"X": np.where(d.rng.random(shape) < 0.7, known, other).astype(kind).reshape(shape)})
    return found


@family(4)
def label_encoder(d: Draw) -> Sample:
    """Versions 2 and 4 with lists, and the tensors of version 4, which know more types."""
    version = d.one([2, 2, 4, 4])
    tensors = version == 4 and d.chance(0.5)
    kinds = ["str", "int64", "float32"] + (["float64", "int32"] if tensors and d.chance(0.3) else [])
    source, target = d.one(kinds), d.one(kinds)
    keys = category(d, source, d.between(1, 6))
    values = category(d, target, len(keys))
    values = (values * len(keys))[: len(keys)]
    attributes: dict[str, Json] = {}
    if tensors:
        attributes["keys_tensor"] = constant("keys", np.array(keys, dtype=object if source == "str" else source))
        attributes["values_tensor"] = constant("values", np.array(values, dtype=object if target == "str" else target))
        if d.chance(0.7):
            default = category(d, target, 1)
            attributes["default_tensor"] = constant("default", np.array(default, dtype=object if target == "str" else target))
    else:
        attributes = {f"keys_{SUFFIX[source]}": keys, f"values_{SUFFIX[target]}": values}
        if d.chance(0.6):
            attributes[DEFAULT[target]] = category(d, target, 1)[0]
    return sample(d, "LabelEncoder", asked(d, source, keys), domain=ML, version=version, attributes=attributes)


@family()
def label_encoder_v1(d: Draw) -> Sample:
    """A list of strings and their positions, read in either direction."""
    classes = d.some(WORDS, d.between(1, 6))
    attributes: dict[str, Json] = {"classes_strings": classes}
    if d.chance(0.6):
        attributes |= {"default_int64": d.between(-2, 3), "default_string": d.one(WORDS)}
    found = asked(d, "str", classes) if d.chance(0.5) else asked(d, "int64", list(range(len(classes))))
    return sample(d, "LabelEncoder", found, domain=ML, version=1, attributes=attributes)


@family()
def category_mapper(d: Draw) -> Sample:
    """Two lists of equal length, read in either direction."""
    texts = d.some(WORDS, d.between(1, 6))
    integers = [int(each) for each in (d.some if d.chance(0.8) else d.many)(range(-2, 9), len(texts))]
    attributes: dict[str, Json] = {"cats_strings": texts, "cats_int64s": integers}
    if d.chance(0.6):
        attributes |= {"default_int64": d.between(-2, 3), "default_string": d.one(WORDS)}
    found = asked(d, "str", texts) if d.chance(0.5) else asked(d, "int64", integers)
    return sample(d, "CategoryMapper", found, domain=ML, attributes=attributes)


@family(2.5)
def one_hot_encoder(d: Draw) -> Sample:
    """Strings and whole numbers, from inputs of every type."""
    if d.chance(0.5):
        keys, kind, name = category(d, "str", d.between(1, 6)), "str", "cats_strings"
    else:
        keys, kind, name = (
            category(d, "int64", d.between(1, 6)),
            d.one(["int64", "int64", "float32", "float64", "int32"]),
            "cats_int64s",
        )
    found = asked(d, kind, keys)
    if kind.startswith("float") and d.chance(0.9):
        # Beyond the range of whole numbers, a conversion means nothing.
        found = [{"X": np.nan_to_num(np.clip(feed["X"], -9, 9)) + d.one([0.0, 0.25])} for feed in found]
        found = [{"X": feed["X"].astype(kind)} for feed in found]
    attributes: dict[str, Json] = {name: keys, "zeros": d.one([None, 1, 1, 0])}
    return sample(d, "OneHotEncoder", found, domain=ML, attributes=attributes)


@family(2)
def array_feature_extractor(d: Draw) -> Sample:
    """Columns by constant or computed indices, from tensors of one axis and more."""
    kind = d.one([*NUMBERS, "str"])
    columns = d.between(1, 6)
    low = -1 if d.chance(0.04) else 0
    indices = np.array(d.many(range(low, columns + (1 if d.chance(0.04) else 0)), d.one([1, 1, 2, 3])))
    if d.chance(0.2):
        indices = indices[None]
    if d.chance(0.3):
        shapes: list[tuple[int, ...]] = [(columns,)]
    elif d.chance(0.15):
        shapes = [(2, d.between(1, 3), columns)]
    else:
        shapes = [(rows, columns) for rows in d.batches()]
    found = [{"X": d.data(kind, shape), "I": indices} for shape in shapes]
    held = ["I"] if d.chance(0.7) else []
    return sample(d, "ArrayFeatureExtractor", found, domain=ML, constants=held)


@family(1.5)
def labels_by_index(d: Draw) -> Sample:
    """A constant list of labels, from which computed indices choose: how converters name the winner."""
    labels = words([str(each) for each in d.some(WORDS, d.between(2, 5))])
    data: np.ndarray = labels if d.chance(0.5) else np.arange(10, 10 + len(labels))
    if d.chance(0.2):
        data = data[None]
    found = [{"L": data, "X": d.rng.integers(0, len(labels), rows)} for rows in d.batches()]
    return sample(d, "ArrayFeatureExtractor", found, domain=ML, inputs=["L", "X"], constants=["L"])


@family()
def one_hot(d: Draw) -> Sample:
    """The operator of ai.onnx: wrong indices give no 1."""
    depth = d.between(1, 5)
    values = d.one([np.array([0, 1], np.float32), np.array([0, 1]), np.array([2.5, -1], np.float32)])
    kind = d.one(["int64", "int64", "float32", "int32"])
    shape = d.shape(1, 3)
    data = d.rng.integers(-depth - 1, depth + 1, shape).astype(kind)
    attributes: dict[str, Json] = {"axis": d.one([None, d.between(-len(shape) - 1, len(shape))])}
    found = [{"X": data, "D": np.array(depth), "V": values}]
    return sample(d, "OneHot", found, attributes=attributes, constants=["D", "V"])


@family()
def repeated(d: Draw) -> Sample:
    """Values of every type that pass through."""
    kind = d.one(EVERY)
    return sample(d, "Identity", [{"X": d.data(kind, d.shape())}])
