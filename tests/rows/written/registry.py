"""The list of written graphs, and what they share: inputs of a `Walk`."""

from dataclasses import dataclass

import numpy as np

from inputs import WORDS
from random_graphs import normal

OPSET = 17
WRITTEN = []


@dataclass(frozen=True)
class Written:
    """`write(walk)` adds inputs and nodes, and gives the name of the output or the names of several."""

    write: object
    opset: int
    origin: str


def mixing(opset=OPSET):
    return register("mixing", opset)


def rowwise(opset=OPSET):
    return register("rowwise", opset)


def register(origin, opset):
    def add(write):
        WRITTEN.append(Written(write, opset, origin))
        return write

    return add


def floats(g, *sizes, name="x"):
    g.input(name, np.float32, sizes, normal(g))
    return name


def ids(g, *sizes, name="ids", limit=4):
    g.input(name, np.int64, sizes, lambda shape: g.rng.integers(0, limit, shape))
    return name


def texts(g, *sizes, name="text"):
    g.input(name, object, sizes, lambda shape: g.rng.choice(WORDS, shape))
    return name
