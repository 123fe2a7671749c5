"""Operators that work element by element, with the shapes and types that they mix."""

import numpy as np
from support import Feed, Json, element, kind_of

from families.registry import ALL, CALM, EVERY, FLOATS, NUMBERS, NUMERALS, ODD, Draw, Sample, broadcastable, family, sample

UNARY_FLOAT = ["Exp", "Log", "Sqrt", "Sigmoid", "Tanh", "Reciprocal", "Floor", "Ceil", "Round", "Erf", "Relu", "IsNaN", "IsInf"]
UNARY_ANY = ["Abs", "Neg", "Sign"]
COMPARISONS = ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]


def pair(d: Draw, left: str, right: str, level: str = ALL) -> list[Feed]:
    """Two operands whose shapes meet."""
    shape = d.shape()
    other = broadcastable(d, shape)
    if d.chance(0.3):
        shape, other = other, shape
    return [{"A": d.data(left, shape, level), "B": d.data(right, other, level)}]


def held(d: Draw) -> list[str]:
    """Operands that the graph holds."""
    return d.one([[], [], ["B"], ["A"]])


@family(5)
def cast(d: Draw) -> Sample:
    """Every pair of types; text of numbers with what surrounds them."""
    source, target = d.one(EVERY), d.one(EVERY)
    if source == "str" and target != "str":
        usual = NUMERALS if d.chance(0.4) else NUMERALS[: 4 if target.startswith("int") else 8]
        found: list[Feed] = [{"X": d.strings((d.one([1, 1, 3]),), usual)}]
    else:
        found = [{"X": d.data(source, d.shape(), ALL)}]
        if source in FLOATS and target.startswith("int") and d.chance(0.8):
            # Beyond the range of the target, a conversion means nothing.
            found[0]["X"] = np.clip(np.nan_to_num(found[0]["X"]), -1e9, 1e9).astype(source)
    return sample(d, "Cast", found, version=d.one([9, 13, 17, 21]), attributes={"to": element(target)})


@family(2)
def arithmetic(d: Draw) -> Sample:
    """Whole numbers are never divided by zero, which ends the runtime."""
    op, kind = d.one(["Add", "Sub", "Mul", "Div"]), d.one(["float32", *NUMBERS])
    found = pair(d, kind, kind, CALM if op == "Div" and kind.startswith("int") else ALL)
    if op == "Div" and kind.startswith("int"):
        found[0]["B"] = np.where(found[0]["B"] == 0, 3, found[0]["B"]).astype(kind)
    return sample(d, op, found, constants=held(d), version=d.one([7, 13, 17]))


@family(2)
def comparison(d: Draw) -> Sample:
    """Every order, and equality of text and of truths."""
    op = d.one(COMPARISONS)
    kind = d.one(["float32", "int64", *(EVERY if op == "Equal" else NUMBERS)])
    version = d.one([13, 17, 19]) if kind != "str" else d.one([13, 19, 19])
    return sample(d, op, pair(d, kind, kind), constants=held(d), version=version)


@family()
def logic(d: Draw) -> Sample:
    """And, or, either, not."""
    if d.chance(0.2):
        return sample(d, "Not", [{"X": d.data("bool", d.shape())}])
    return sample(d, d.one(["And", "Or", "Xor"]), pair(d, "bool", "bool"), constants=held(d))


@family(1.5)
def power(d: Draw) -> Sample:
    """The base gives the type of the answer."""
    base, exponent = d.one(NUMBERS), d.one(NUMBERS)
    shape = d.shape()
    powers = d.data(exponent, broadcastable(d, shape), ODD)
    if d.chance(0.6):
        powers = d.rng.choice(np.array([0, 1, 2, 3, 2]), powers.shape).astype(exponent)
    if base.startswith("int"):
        # A broken power, or one of a negative, has no place among whole numbers.
        powers = np.clip(np.nan_to_num(powers), 0, 5).astype(exponent)
    data = d.data(base, shape, CALM if base.startswith("int") else ALL)
    return sample(d, "Pow", [{"A": data, "B": powers}], constants=d.one([[], ["B"]]), version=d.one([13, 15]))


@family(3)
def unary(d: Draw) -> Sample:
    """Functions of one number."""
    op = d.one([*UNARY_FLOAT, *UNARY_ANY, *UNARY_ANY])
    kind = d.one(["float32", "float32", *(NUMBERS if op in UNARY_ANY else FLOATS)])
    return sample(d, op, [{"X": d.data(kind, d.shape())}], version=d.one([13, 20]))


@family(1.5)
def clip(d: Draw) -> Sample:
    """Limits as inputs, of which each may be missing; before opset 11 as attributes."""
    kind = d.one(["float32", "float32", *NUMBERS])
    data = d.data(kind, d.shape())
    low, high = sorted(d.data(kind, (2,), CALM).tolist())
    if d.chance(0.1):
        low, high = high, low
    if d.chance(0.2):
        attributes: dict[str, Json] = {"min": d.one([None, low]), "max": d.one([None, high])}
        attributes = {name: None if value is None else float(value) for name, value in attributes.items()}
        return sample(d, "Clip", [{"X": data.astype("float32")}], version=d.one([6, 10]), attributes=attributes)
    found = {"X": data, "low": np.array(low, kind), "high": np.array(high, kind)}
    inputs = ["X", "low", "high"]
    for name in ("low", "high"):
        if d.chance(0.25):
            del found[name]
            inputs[inputs.index(name)] = ""
    while inputs[-1] == "":
        inputs.pop()
    limits = [name for name in found if name != "X"]
    return sample(d, "Clip", [found], inputs=inputs, constants=limits if d.chance(0.7) else [], version=d.one([12, 13]))


@family(1.5)
def where(d: Draw) -> Sample:
    """Three shapes that meet."""
    kind, shape = d.one(["float32", "int64", *EVERY]), d.shape()
    found: Feed = {"C": d.data("bool", broadcastable(d, shape))}
    found |= {"A": d.data(kind, shape), "B": d.data(kind, broadcastable(d, shape))}
    return sample(d, "Where", [found], constants=d.one([[], [], ["A"], ["B"], ["A", "B"]]))


@family(1.5)
def variadic(d: Draw) -> Sample:
    """Some operands, rarely one."""
    op = d.one(["Sum", "Sum", "Max", "Min", "Mean"])
    kind = d.one(["float32", "float32", *(NUMBERS if op in ("Max", "Min") else FLOATS)])
    shape = d.shape()
    found = {f"X{position}": d.data(kind, broadcastable(d, shape)) for position in range(d.one([1, 2, 2, 3, 4]))}
    return sample(d, op, [found], version=d.one([8, 13]))


@family()
def softmax(d: Draw) -> Sample:
    """Before opset 13 the axes behind the axis are one."""
    shape = d.shape(1, 4)
    attributes: dict[str, Json] = {"axis": d.one([None, d.axis(len(shape))])}
    found = [{"X": d.data(d.one(FLOATS), shape, ODD if d.chance(0.3) else CALM)}]
    return sample(d, d.one(["Softmax", "Softmax", "LogSoftmax"]), found, version=d.one([9, 11, 13, 17]), attributes=attributes)


@family()
def lp_normalization(d: Draw) -> Sample:
    """Sums of magnitudes and of squares."""
    shape = d.shape(1, 3)
    attributes: dict[str, Json] = {"axis": d.one([None, d.axis(len(shape))]), "p": d.one([None, 1, 2])}
    return sample(d, "LpNormalization", [{"X": d.data(d.one(FLOATS), shape, ODD)}], attributes=attributes)


@family()
def mixed_types(d: Draw) -> Sample:
    """Types that the standard does not let meet: refused."""
    op = d.one(["Add", "Less", "Equal", "Concat", "MatMul", "Where"])
    left, right = d.some(NUMBERS, 2)
    found: Feed = {"A": d.data(left, (2, 2), CALM), "B": d.data(right, (2, 2), CALM)}
    if op == "Where":
        found = {"C": d.data("bool", (2, 2)), **found}
    assert kind_of(found["A"]) != kind_of(found["B"])
    return sample(d, op, [found], attributes={"axis": 0} if op == "Concat" else None)
