"""Operators that make one number of many, or choose among them."""

import numpy as np
from support import Feed, Json

from families.registry import CALM, FLOATS, NUMBERS, ODD, Draw, Sample, family, sample

REDUCTIONS = [
    "ReduceSum",
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
    "ReduceLogSumExp",
]
REDUCTIONS += ["ReduceL1", "ReduceL2", "ReduceLogSum"]


@family(5)
def reduce(d: Draw) -> Sample:
    """Axes as an attribute, or as an input that may be empty."""
    op = d.one(REDUCTIONS)
    kind = d.one(["float32", "float32", *NUMBERS])
    shape = d.shape(1, 4, empty=0.04)
    axes = [axis - len(shape) if d.chance(0.3) else axis for axis in d.some(range(len(shape)), d.between(1, len(shape)))]
    attributes: dict[str, Json] = {"keepdims": d.one([None, 0, 1])}
    found: Feed = {"X": d.data(kind, shape, ODD if d.chance(0.4) else CALM)}
    since = 13 if op == "ReduceSum" else 18
    if d.chance(0.5):
        attributes["axes"] = axes if d.chance(0.8) else None
        return sample(d, op, [found], version=since - 1, attributes=attributes)
    if d.chance(0.85):
        found["axes"] = np.array(axes)
    elif d.chance(0.4):
        found["axes"] = np.zeros(0, np.int64)
    attributes["noop_with_empty_axes"] = d.one([None, None, 0, 1])
    constants = ["axes"] if "axes" in found and d.chance(0.85) else []
    return sample(d, op, [found], constants=constants, version=d.one([since, 18]), attributes=attributes)


@family(3)
def arg(d: Draw) -> Sample:
    """The place of the largest or smallest; ties go to the first, or to the last where that is asked."""
    shape = d.shape(1, 4, empty=0.02)
    kind = d.one(["float32", "float32", *NUMBERS])
    attributes: dict[str, Json] = {"axis": d.one([None, d.axis(len(shape))]), "keepdims": d.one([None, 0, 1])}
    version = d.one([11, 12, 13, 17])
    if version >= 12:
        attributes["select_last_index"] = d.one([None, None, 0, 1])
    op = d.one(["ArgMax", "ArgMax", "ArgMin"])
    return sample(d, op, [{"X": d.data(kind, shape, ODD if d.chance(0.3) else CALM)}], version=version, attributes=attributes)


@family(2.5)
def top_k(d: Draw) -> Sample:
    """Equal numbers keep their order."""
    shape = d.shape(1, 3, empty=0.02)
    axis = d.axis(len(shape))
    count = d.between(0, shape[axis]) + (1 if d.chance(0.03) else 0)
    kind = d.one(["float32", "float32", *NUMBERS])
    version = d.one([10, 11, 11, 17])
    attributes: dict[str, Json] = {"axis": axis if d.chance(0.9) else None}
    if attributes["axis"] is None:
        count = min(count, shape[-1])
    if version >= 11:
        attributes |= {"largest": d.one([None, 0, 1]), "sorted": d.one([None, 1, 1])}
    elif axis < 0:
        attributes["axis"] = None
        count = min(count, shape[-1])
    # With NaN the order is that of the algorithm, not of the standard.
    found: Feed = {"X": d.data(kind, shape, ODD if d.chance(0.1) else CALM), "K": np.array([count])}
    wanted = d.one([["V", "I"], ["V", "I"], ["I"], ["V"]])
    constants = ["K"] if d.chance(0.8) else []
    return sample(d, "TopK", [found], ("V", "I"), wanted=wanted, constants=constants, version=version, attributes=attributes)


@family(1.5)
def cumulative_sum(d: Draw) -> Sample:
    """In either direction, with and without the element itself."""
    shape = d.shape(1, 3)
    attributes: dict[str, Json] = {"exclusive": d.one([None, 0, 1]), "reverse": d.one([None, 0, 1])}
    axis = np.array(d.axis(len(shape)), d.one(["int64", "int32"]))
    found: Feed = {"X": d.data(d.one(NUMBERS), shape, ODD), "axis": axis if d.chance(0.7) else axis[None]}
    return sample(
        d, "CumSum", [found], constants=["axis"] if d.chance(0.8) else [], version=d.one([11, 14]), attributes=attributes
    )


@family(3)
def matrix_product(d: Draw) -> Sample:
    """Vectors, matrices and stacks of them; sizes that no kernel likes."""
    rows, inner, columns = (d.one([1, 1, 2, 3, 5, 9, 17, 33]) for _ in range(3))
    if d.chance(0.06):
        rows, inner, columns = d.one([(0, inner, columns), (rows, 0, columns), (rows, inner, 0)])
    left: tuple[int, ...] = (rows, inner)
    right: tuple[int, ...] = (inner, columns)
    form = d.between(0, 7)
    if form == 0:
        left = (inner,)
    elif form == 1:
        right = (inner,)
    elif form == 2:
        left = (2, rows, inner)
    elif form == 3:
        left, right = (2, 1, rows, inner), (3, inner, columns)
    elif form == 4:
        right = (2, inner, columns)
    kind = d.one(["float32", "float32", "float32", *NUMBERS])
    level = ODD if d.chance(0.15) else CALM
    found: list[Feed] = [{"A": d.data(kind, left, level), "B": d.data(kind, right, level)}]
    return sample(d, "MatMul", found, constants=d.one([[], ["B"], ["B"]]), version=d.one([9, 13]))


@family(3)
def general_product(d: Draw) -> Sample:
    """Transposed, scaled, and with something added that is spread."""
    rows, inner, columns = (d.one([1, 2, 3, 5, 9, 17]) for _ in range(3))
    if d.chance(0.05):
        rows = 0
    first, second = d.one([None, 0, 1]), d.one([None, 0, 1])
    kind = d.one(["float32", "float32", "float32", *NUMBERS])
    level = ODD if d.chance(0.15) else CALM
    found: Feed = {"A": d.data(kind, (inner, rows) if first else (rows, inner), level)}
    found["B"] = d.data(kind, (columns, inner) if second else (inner, columns), level)
    if d.chance(0.8):
        shapes: list[tuple[int, ...]] = [(columns,), (1, columns), (rows, columns), (rows, 1), (1,), (), (1, 1)]
        found["C"] = d.data(kind, d.one(shapes), level)
    attributes: dict[str, Json] = {"transA": first, "transB": second}
    attributes |= {"alpha": d.one([None, None, 0.5, 2.0, 0.0]), "beta": d.one([None, None, 0.5, 0.0, -1.0])}
    constants = [name for name in ("B", "C") if name in found] if d.chance(0.6) else []
    return sample(d, "Gemm", [found], constants=constants, version=d.one([9, 11, 13]), attributes=attributes)


@family()
def without_values(d: Draw) -> Sample:
    """Reductions of nothing: sums have an answer, the largest has none."""
    op = d.one(["ReduceSum", "ReduceMax", "ReduceMean", "ReduceProd", "ReduceLogSumExp", "ArgMax", "TopK", "CumSum"])
    shape = d.one([(0, 3), (3, 0), (0,), (2, 0, 2)])
    found: Feed = {"X": d.data(d.one(["float32", "float32", *FLOATS, "int64"]), shape)}
    if op == "TopK":
        return sample(d, op, [found | {"K": np.array([0])}], ("V", "I"), constants=["K"])
    if op == "CumSum":
        return sample(d, op, [found | {"axis": np.array(0)}], constants=["axis"])
    attributes: dict[str, Json] = {"keepdims": d.one([0, 1]), "axis" if op == "ArgMax" else "axes": 0 if op == "ArgMax" else [0]}
    return sample(d, op, [found], version=11, attributes=attributes)
