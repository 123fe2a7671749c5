"""A random walk through operators: each step adds some nodes to a graph that runs for any number of rows."""

from dataclasses import dataclass

import numpy as np

from graphs import Builder, tensor_input
from runs import Runner, typed

# Row counts that tell what a size is: a number, or a multiple of the rows.
COUNTS = (2, 3, 5)
RECORDED_ROWS = 6
FLOAT = np.dtype(np.float32)


class Unfit(Exception):
    """The graph has no value that a block needs, or the block's nodes do not run."""


@dataclass(frozen=True)
class Rows:
    """A size of `factor` times the number of rows."""

    factor: int


ONE = Rows(1)


@dataclass
class Value:
    dtype: np.dtype
    shape: tuple


def size_from(found):
    """A size from those of runs with `COUNTS` rows; none if it is neither fixed nor a multiple."""
    slope = found[1] - found[0]
    if slope == 0 and found[2] == found[0]:
        return int(found[0])
    return Rows(int(slope)) if all(size == slope * count for size, count in zip(found, COUNTS)) else None


class Walk(Builder):
    """A graph that grows, with the types and sizes of its values as ONNX Runtime computes them."""

    def __init__(self, opset, rng):
        super().__init__(opset)
        self.rng = rng
        self.values = {}
        self.inputs = []
        self.recorded = {}

    def input(self, name, dtype, sizes, draw, rows=True):
        """An input; `draw(shape)` gives the values that are recorded for it."""
        shape = (RECORDED_ROWS, *sizes) if rows else tuple(sizes)
        self.recorded[name] = np.asarray(draw(shape)).astype(dtype)
        self.inputs.append(tensor_input(name, dtype, ["N", *sizes] if rows else sizes))
        self.values[name] = Value(np.dtype(dtype), (ONE, *sizes) if rows else tuple(sizes))

    def feed(self, count):
        """Recorded values for so many rows."""
        rows = {name for name in self.recorded if self.values[name].shape[:1] == (ONE,)}
        return {name: array[:count] if name in rows else array for name, array in self.recorded.items()}

    def step(self, block):
        """Adds the nodes of a block, or nothing if they do not run."""
        nodes, constants = len(self.nodes), len(self.constants)
        try:
            block(self)
            self.trace(self.nodes[nodes:])
        except Unfit:
            del self.nodes[nodes:], self.constants[constants:]

    def trace(self, nodes):
        """Learns the types and sizes of new values by running the graph for a few row counts."""
        names = [name for node in nodes for name in node.output if name]
        try:
            runner = Runner(self.model(self.inputs, names))
            runs = [runner.raw(self.feed(count)) for count in COUNTS]
        except Exception as error:
            raise Unfit(str(error)) from None
        for name, found in zip(names, zip(*runs)):
            if all(isinstance(array, np.ndarray) for array in found) and len({array.ndim for array in found}) == 1:
                sizes = zip(*(array.shape for array in found))
                self.values[name] = Value(found[0].dtype, tuple(map(size_from, sizes)))
            elif all(isinstance(rows, list) for rows in found):
                self.values[name] = Value(np.dtype(object), (ONE,))

    def choice(self, options):
        return options[self.rng.integers(len(options))]

    def maybe(self, chance=0.5):
        return self.rng.random() < chance

    def number(self, low, high):
        """A whole number, both limits included."""
        return int(self.rng.integers(low, high + 1))

    def weight(self, *shape):
        return self.const(self.rng.normal(size=shape) * 0.5)

    def pick(self, fits):
        """A value that fits, mostly a recent one."""
        names = [name for name, value in self.values.items() if fits(value)]
        if not names:
            raise Unfit("no such value")
        odds = np.arange(1, len(names) + 1) ** 2
        return str(self.rng.choice(names, p=odds / odds.sum()))

    def rows(self, rank=None, least=1, dtype=FLOAT, most=8):
        """A value with the rows on its first axis and known sizes behind; of this rank, or of at least `least` axes."""

        def fits(value):
            if value.dtype != dtype or value.shape[:1] != (ONE,):
                return False
            if not all(isinstance(size, int) and size > 0 for size in value.shape[1:]):
                return False
            return len(value.shape) == rank if rank else least <= len(value.shape) <= most

        return self.pick(fits)

    def sizes(self, x):
        return self.values[x].shape[1:]

    def rank(self, x):
        return len(self.values[x].shape)

    def axis(self, x, spelled=True):
        """A random axis behind the rows, from the front or from the back."""
        axis = self.number(1, self.rank(x) - 1)
        return axis - self.rank(x) if spelled and self.maybe(0.3) else axis

    def sibling(self, x):
        """Another value of the same type and sizes, or the same again."""
        return self.pick(lambda value: value == self.values[x])

    def leaves(self):
        """The values that nothing reads, in order."""
        read = {name for node in self.nodes for name in node.input}
        written = [name for node in self.nodes for name in node.output]
        return [name for name in written if name in self.values and name not in read]

    def finish(self, outputs):
        """The model with only the nodes that the outputs need."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input) | inner_names(node)
        self.nodes = kept[::-1]
        self.constants = [constant for constant in self.constants if constant.name in needed]
        inputs = [value for value in self.inputs if value.name in needed]
        self.recorded = {value.name: self.recorded[value.name] for value in inputs}
        return typed(self.model(inputs, outputs))


def inner_names(node):
    """The names that the subgraphs of a node read."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {name for graph in graphs for inner in graph.node for name in inner.input}
