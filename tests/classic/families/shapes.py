"""Operators that move values and change shapes."""

import numpy as np
from support import Feed, Json, constant, text

from families.registry import EVERY, NUMBERS, Draw, Sample, broadcastable, family, sample


def any_data(d: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a type that these operators only carry."""
    return d.data(d.one(["float32", "int64", *EVERY]), shape)


def factors(d: Draw, size: int) -> list[int]:
    """A shape with as many elements."""
    found: list[int] = []
    while size > 1 and len(found) < 3 and d.chance(0.75):
        divisors = [each for each in range(1, size + 1) if size % each == 0]
        found.append(d.one(divisors))
        size //= found[-1]
    return [*found, size] if size != 1 or not found else found


@family(3)
def reshape(d: Draw) -> Sample:
    """With a size that follows, with sizes that are kept, and with zeros that mean zero."""
    shape = d.shape(0, 4)
    size = int(np.prod(shape))
    target = factors(d, size) if size else list(shape)
    allow = d.one([None, None, None, 1])
    if size and d.chance(0.5):
        target[d.between(0, len(target) - 1)] = -1
    if not allow:
        for axis, each in enumerate(shape[: len(target)]):
            if target[axis] == each and d.chance(0.4):
                target[axis] = 0
    if d.chance(0.03):
        target = [*target, 2]
    version = 14 if allow is not None else d.one([5, 13, 17])
    found: Feed = {"X": any_data(d, shape), "shape": np.array(target, np.int64)}
    constants = ["shape"] if d.chance(0.8) else []
    return sample(d, "Reshape", [found], constants=constants, version=version, attributes={"allowzero": allow})


@family(1.5)
def transpose(d: Draw) -> Sample:
    """Any order of axes, or the reverse."""
    shape = d.shape(0, 4)
    order = [int(each) for each in d.rng.permutation(len(shape))]
    return sample(d, "Transpose", [{"X": any_data(d, shape)}], attributes={"perm": order if order and d.chance(0.75) else None})


@family(2)
def concat(d: Draw) -> Sample:
    """Parts that may be empty."""
    shape = list(d.shape(1, 4))
    axis = d.axis(len(shape))
    kind = d.one(["float32", "float32", *EVERY])
    found: Feed = {}
    for position in range(d.one([1, 2, 2, 3, 5])):
        part = list(shape)
        part[axis] = 0 if d.chance(0.08) else d.between(1, 3)
        found[f"X{position}"] = d.data(kind, part)
    constants = ["X0"] if len(found) > 1 and d.chance(0.2) else []
    return sample(d, "Concat", [found], constants=constants, version=d.one([4, 11, 13]), attributes={"axis": axis})


@family(2)
def gather(d: Draw) -> Sample:
    """Indices from the front or the end, of any shape; rarely one too far."""
    shape = d.shape(1, 3, empty=0.02)
    axis = d.axis(len(shape))
    limit = shape[axis]
    count = d.shape(0, 2)
    low, high = (-limit, limit) if d.chance(0.4) else (0, limit)
    indices = d.rng.integers(low, max(high, low + 1), count).astype(d.one(["int64", "int64", "int32"]))
    if d.chance(0.04):
        indices = indices + limit + 1
    found: Feed = {"X": any_data(d, shape), "I": np.asarray(indices)}
    given: dict[str, Json] = {"axis": axis if d.chance(0.9) else None}
    if given["axis"] is None:
        found["I"] = np.zeros(count, np.int64)
    constants = d.one([[], ["I"], ["I"], ["X"]])
    return sample(d, "Gather", [found], constants=constants, version=d.one([11, 13]), attributes=given)


@family(2)
def slices(d: Draw) -> Sample:
    """Ends far outside, steps backwards, and the attributes of before opset 10."""
    shape = d.shape(1, 4)
    axes = d.some(range(len(shape)), d.between(1, len(shape)))
    far = 2**31 - 1
    starts = [d.one([0, 0, 1, -1, -2, -9, far]) for _ in axes]
    ends = [d.one([1, 2, 3, -1, 9, far, far, 2**63 - 1, -(2**31)]) for _ in axes]
    steps = [d.one([1, 1, 1, 2, -1, -2]) for _ in axes]
    named = [axis - len(shape) if d.chance(0.3) else axis for axis in axes]
    data = any_data(d, shape)
    if d.chance(0.25):
        attributes: dict[str, Json] = {"starts": starts, "ends": ends, "axes": axes}
        return sample(d, "Slice", [{"X": data}], version=9, attributes=attributes)
    kind = d.one(["int64", "int64", "int32"])
    if kind == "int32":
        ends = [min(each, far) for each in ends]
    found: Feed = {"X": data, "starts": np.array(starts, kind), "ends": np.array(ends, kind), "axes": np.array(named, kind)}
    if d.chance(0.5):
        found["steps"] = np.array(steps, kind)
    constants = [name for name in found if name != "X"] if d.chance(0.8) else []
    return sample(d, "Slice", [found], constants=constants, version=d.one([10, 11, 13]))


@family(1.5)
def unsqueeze(d: Draw) -> Sample:
    """Axes as an attribute, then as an input."""
    shape = d.shape(0, 3)
    rank = len(shape) + d.between(1, 2)
    axes = [axis - rank if d.chance(0.3) else axis for axis in d.some(range(rank), rank - len(shape))]
    data = any_data(d, shape)
    if d.chance(0.4):
        return sample(d, "Unsqueeze", [{"X": data}], version=11, attributes={"axes": axes})
    return sample(d, "Unsqueeze", [{"X": data, "axes": np.array(axes)}], constants=["axes"], version=13)


@family(1.5)
def squeeze(d: Draw) -> Sample:
    """All axes of size 1, or those that are named."""
    shape = d.shape(0, 4)
    ones = [axis for axis, each in enumerate(shape) if each == 1]
    axes = [axis - len(shape) if d.chance(0.3) else axis for axis in d.some(ones, d.between(0, len(ones)))]
    if shape and d.chance(0.04):
        axes = [0]
    data = any_data(d, shape)
    if d.chance(0.4):
        return sample(d, "Squeeze", [{"X": data}], version=11, attributes={"axes": axes or None})
    if not axes:
        return sample(d, "Squeeze", [{"X": data}], version=13)
    return sample(d, "Squeeze", [{"X": data, "axes": np.array(axes)}], constants=["axes"], version=13)


@family()
def flatten(d: Draw) -> Sample:
    """The axis may be the last but one, or behind all."""
    shape = d.shape(0, 4)
    axis = d.one([None, d.between(-len(shape), len(shape))])
    return sample(d, "Flatten", [{"X": any_data(d, shape)}], version=d.one([11, 13]), attributes={"axis": axis})


@family(1.5)
def shape_of(d: Draw) -> Sample:
    """Sizes, or some of them."""
    data = any_data(d, d.shape(0, 4))
    if d.chance(0.25):
        return sample(d, "Size", [{"X": data}])
    if d.chance(0.5):
        return sample(d, "Shape", [{"X": data}], version=13)
    ends: dict[str, Json] = {"start": d.one([None, d.between(-5, 5)]), "end": d.one([None, d.between(-5, 5)])}
    return sample(d, "Shape", [{"X": data}], version=15, attributes=ends)


@family()
def constant_of_shape(d: Draw) -> Sample:
    """A value of every type; without one, zero."""
    shape = np.array(d.shape(0, 3), np.int64)
    kind = d.one([None, *NUMBERS, "bool"])
    value = None if kind is None else constant("value", d.data(kind, (1,)))
    return sample(d, "ConstantOfShape", [{"X": shape}], constants=d.one([[], ["X"]]), attributes={"value": value})


@family()
def expand(d: Draw) -> Sample:
    """To a shape that meets the input's."""
    shape = d.shape(0, 3)
    target = broadcastable(d, shape)
    found: Feed = {"X": any_data(d, shape), "shape": np.array(target, np.int64)}
    return sample(d, "Expand", [found], constants=d.one([[], ["shape"]]))


@family()
def tile(d: Draw) -> Sample:
    """Repeats along each axis, perhaps none."""
    shape = d.shape(1, 3)
    repeats = np.array([d.one([1, 2, 3, 0]) if d.chance(0.9) else 0 for _ in shape])
    return sample(d, "Tile", [{"X": any_data(d, shape), "R": repeats}], constants=d.one([[], ["R"]]))


@family()
def split(d: Draw) -> Sample:
    """Equal parts, or given ones."""
    sizes = [d.between(0 if d.chance(0.1) else 1, 3) for _ in range(d.between(1, 3))]
    shape = list(d.shape(1, 3))
    axis = d.axis(len(shape))
    shape[axis] = sum(sizes)
    outputs = [f"Y{position}" for position in range(len(sizes))]
    data = any_data(d, tuple(shape))
    if d.chance(0.4):
        return sample(d, "Split", [{"X": data}], outputs, version=11, attributes={"axis": axis, "split": sizes})
    found: Feed = {"X": data, "split": np.array(sizes)}
    return sample(d, "Split", [found], outputs, constants=["split"], version=13, attributes={"axis": axis})


@family()
def constants(d: Draw) -> Sample:
    """The forms of `Constant`, beside an input that has no say."""
    form = d.between(0, 5)
    strings = d.strings((3,)).tolist()
    attributes: dict[str, Json] = [
        {"value": constant("value", any_data(d, d.shape(0, 3)))},
        {"value_float": float(d.floats((1,))[0])},
        {"value_floats": [float(each) for each in d.floats((3,))]},
        {"value_int": d.between(-9, 9)},
        {"value_ints": [1, -2, 3]},
        {"value_strings": strings} if d.chance(0.5) else {"value_string": strings[0]},
    ][form]
    return sample(d, "Constant", [{}], version=13, attributes=attributes)


@family()
def gather_elements(d: Draw) -> Sample:
    """One index for each element."""
    shape = d.shape(1, 3, empty=0.0)
    axis = d.axis(len(shape))
    indices = d.rng.integers(-shape[axis], shape[axis], shape)
    return sample(d, "GatherElements", [{"X": any_data(d, shape), "I": indices}], attributes={"axis": axis})


@family(0.5)
def sequences(d: Draw) -> Sample:
    """Tensors side by side, as a model of several outputs answers them."""
    kind = d.one(["float32", "int64", "str"])
    found = {f"X{position}": d.data(kind, d.shape(1, 2)) for position in range(d.between(1, 3))}
    if d.chance(0.2):
        found["X0"] = text(["only"]) if kind == "str" else found["X0"]
    return sample(d, "SequenceConstruct", [found])
