"""What the families share: draws of shapes, types and hostile values, and the list of families."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx
from onnx import helper
from support import Feed, Json, constant, graph, kind_of, tensor_info, text, untyped

Choice = TypeVar("Choice")

NUMBERS = ("float32", "float64", "int32", "int64")
EVERY = (*NUMBERS, "bool", "str")
FLOATS = ("float32", "float64")
# Edges of comparisons, of text, and of both widths.
SPECIAL = [math.nan, math.inf, -math.inf, -0.0, 0.0]
HUGE = [1e-45, 1e-38, 3e38, -3e38, 1e30, -1e30, 16777217.0, 2147483648.0, -2147483904.0, 9.3e18, 0.1, 1e-7, 123456789.0]
GRID = [-2.0, -1.0, -0.5, 0.0, -0.0, 0.5, 1.0, 2.0, 3.0]
WORDS = [
    "a",
    "b",
    "c",
    "d",
    "A",
    "",
    " ",
    "é",
    "É",
    "ß",
    "naïve",
    "日本",
    "🙂",
    "1",
    "1.0",
    "-0",
    "a b",
    "İ",
    "e\u0301",
    "NaN",
    "x" * 40,
]
NUMERALS = [
    "0",
    "1",
    "-1",
    "1.5",
    " 2 ",
    "1e3",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "INF",
    "+3",
    "0x10",
    "1_000",
    "1,5",
    "-0",
    "007",
    ".5",
    "5.",
]
NUMERALS += [
    "1e400",
    "-1e400",
    "1e-400",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "",
    "abc",
    "\u0661",
    "1e",
    "true",
    "0.1",
]
CALM, ODD, ALL = "calm", "odd", "all"


@dataclass
class Sample:
    """A graph and the inputs of its runs."""

    model: bytes
    feeds: list[Feed]
    extra: dict[str, Json] = field(default_factory=dict)


class Draw:
    """Random choices, the same for a seed on every machine."""

    def __init__(self, seed: Sequence[int]) -> None:
        self.rng = np.random.default_rng(list(seed))

    def chance(self, probability: float) -> bool:
        """True as often as this."""
        return bool(self.rng.random() < probability)

    def one(self, options: Sequence[Choice]) -> Choice:
        """One of them."""
        return options[int(self.rng.integers(len(options)))]

    def some(self, options: Sequence[Choice], count: int) -> list[Choice]:
        """Different ones, in any order."""
        return [options[int(each)] for each in self.rng.permutation(len(options))[:count]]

    def many(self, options: Sequence[Choice], count: int) -> list[Choice]:
        """As many as wanted; one may come twice."""
        return [self.one(options) for _ in range(count)]

    def between(self, low: int, high: int) -> int:
        """A whole number; both ends are possible."""
        return int(self.rng.integers(low, high + 1))

    def shape(self, low: int = 0, high: int = 4, empty: float = 0.06) -> tuple[int, ...]:
        """A shape with this many axes."""
        rank = self.between(low, high)
        return tuple(0 if self.chance(empty) else self.one([1, 1, 2, 3, 4, 5]) for _ in range(rank))

    def batches(self) -> list[int]:
        """Numbers of rows."""
        return self.some([1, 3, 7, 0, 17, 64], 3)

    def data(self, kind: str, shape: Sequence[int], level: str = ALL) -> np.ndarray:
        """Values of any type."""
        if kind == "str":
            return self.strings(shape)
        if kind == "bool":
            return self.rng.random(shape) < 0.5
        return self.floats(shape, kind, level) if kind in FLOATS else self.integers(shape, kind, level)

    def floats(self, shape: Sequence[int], kind: str = "float32", level: str = ALL) -> np.ndarray:
        """Numbers that tie, that are ordinary, or that are at the edges of the format."""
        dtype = np.dtype(kind)
        plain = (self.rng.standard_normal(shape) * self.one([1, 1, 3, 100])).astype(dtype)
        style = self.rng.random()
        if style < 0.3:
            plain = self.rng.choice(np.array(GRID), shape).astype(dtype)
        if level == CALM or style < 0.65:
            return plain
        pool = SPECIAL if level == ODD else [*SPECIAL, *HUGE]
        with np.errstate(over="ignore"):
            odd = self.rng.choice(np.array(pool), shape).astype(dtype)
        return np.where(self.rng.random(shape) < self.one([0.1, 0.3, 0.9]), odd, plain)

    def integers(self, shape: Sequence[int], kind: str = "int64", level: str = ALL) -> np.ndarray:
        """Whole numbers, rarely at the ends of the type."""
        dtype = np.dtype(kind)
        if level == ALL and self.chance(0.15):
            limits = np.iinfo(dtype)
            return self.rng.choice(np.array([limits.min, limits.max, 0, -1, 1, 16777217], dtype), shape)
        low, high = self.one([(-3, 4), (0, 3), (-1000, 1000)])
        return self.rng.integers(low, high, shape).astype(dtype)

    def strings(self, shape: Sequence[int], pool: Sequence[str] = ()) -> np.ndarray:
        """Words, of a few or of all."""
        chosen = list(pool) or (WORDS if self.chance(0.4) else WORDS[:6])
        found = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            found[index] = self.one(chosen)
        return found

    def weights(self, count: int) -> list[float]:
        """Coefficients: whole, or not."""
        if self.chance(0.3):
            return [float(each) for each in self.rng.integers(-3, 4, count)]
        return [float(each) for each in self.rng.standard_normal(count).astype(np.float32)]

    def labels(self, count: int) -> list[int] | list[str]:
        """Classes, rarely in their natural order."""
        if self.chance(0.4):
            return [str(each) for each in self.some(WORDS[:16] + list("efghijklmnop"), count)]
        if self.chance(0.5):
            return list(range(count))
        return [int(each) for each in self.some(range(-5, 30), count)]

    def axis(self, rank: int) -> int:
        """An axis, from the front or from the end."""
        found = self.between(0, max(rank, 1) - 1)
        return found - rank if rank and self.chance(0.3) else found


Family = Callable[[Draw], Sample]
FAMILIES: dict[str, tuple[Family, float]] = {}


def family(weight: float = 1.0) -> Callable[[Family], Family]:
    """Registers a family; the weight says how often it is drawn."""

    def register(build: Family) -> Family:
        FAMILIES[build.__name__] = (build, weight)
        return build

    return register


def label_attribute(labels: Sequence[int | str], strings: str, integers: str) -> dict[str, Json]:
    """The attribute that holds such labels."""
    return {strings if isinstance(labels[0], str) else integers: list(labels)}


def sample(
    d: Draw,
    op: str,
    feeds: Sequence[Feed],
    outputs: Sequence[str] = ("Y",),
    *,
    wanted: Sequence[str] | None = None,
    domain: str = "",
    version: int | None = None,
    constants: Sequence[str] = (),
    inputs: Sequence[str] | None = None,
    attributes: dict[str, Json] | None = None,
) -> Sample:
    """A graph of one operator. Inputs named in `constants` are held by the graph, by an initializer or by a `Constant`.

    `inputs` is given where one is left out in the middle, `wanted` where the graph answers only some of the outputs. Attributes
    that are None are left out.
    """
    feeds = [{name: np.asarray(array) for name, array in feed.items()} for feed in feeds]
    given = {name: value for name, value in (attributes or {}).items() if value is not None}
    first = feeds[0]
    names = list(inputs if inputs is not None else first)
    nodes: list[onnx.NodeProto] = []
    held = []
    for name in constants:
        tensor = constant(name, first[name])
        if d.chance(0.2):
            nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            held.append(tensor)
    nodes.append(helper.make_node(op, names, list(outputs), domain=domain, **given))
    rest = [{name: array for name, array in feed.items() if name not in constants} for feed in feeds]
    infos = [tensor_info(name, kind_of(array), declared(d, [feed[name] for feed in rest])) for name, array in rest[0].items()]
    versions = {} if version is None else {domain: version}
    return Sample(graph(nodes, infos, [untyped(each) for each in wanted or outputs], held, versions), rest)


def declared(d: Draw, arrays: Sequence[np.ndarray]) -> list[int | str | None]:
    """A shape that fits all of them: sizes that do not change are sometimes named."""
    sizes = [{array.shape[axis] for array in arrays} for axis in range(arrays[0].ndim)]
    exact = d.chance(0.5)
    return [next(iter(each)) if exact and len(each) == 1 else None for each in sizes]


def broadcastable(d: Draw, shape: Sequence[int]) -> tuple[int, ...]:
    """Another shape that meets this one."""
    kept = list(shape)[d.between(0, len(shape)) :] if d.chance(0.5) else list(shape)
    found = [1 if d.chance(0.25) else each for each in kept]
    return tuple(([d.between(1, 3)] if d.chance(0.1) else []) + found)


def words(values: Sequence[str]) -> np.ndarray:
    """A vector of strings."""
    return text(list(values))
