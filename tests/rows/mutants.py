"""Inserts one mixing operator into a graph, at an input, between two nodes, or at an output."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from graphs import Builder, opset_of, untyped
from inputs import DRAWS, Pool
from kinds import KINDS, Edge
from runs import Runner

# Row counts by which a value is seen to follow the rows.
FEW, MORE = 3, 5
ATTEMPTS = 12
# Of the chosen edges, those whose first axis follows the rows.
SHARE_OF_ROWS = 0.9
DEFAULT_OPSET = 17
BEFORE = "__before"


class NoMutant(Exception):
    """No attempt gave a graph that runs."""


@dataclass
class Mutant:
    """A serialized graph; `names` maps the inputs that were renamed."""

    data: bytes
    kind: str
    edge: str
    names: dict


def mutant(model, inputs, recorded, kinds, rng):
    """A mutated copy of the graph that runs; `kinds` are tried in order."""
    feeds = some_feeds(inputs, recorded, rng)
    edges = edges_of(model, feeds)
    opset = opset_of(model) or DEFAULT_OPSET
    possible = [name for name in kinds if KINDS[name].since <= opset]
    for name in possible[:ATTEMPTS]:
        edge = choose(edges, KINDS[name], rng)
        if edge is None:
            continue
        names = {edge.name: edge.name + BEFORE} if edge.name in feeds[0] else {}
        mutated = insert(model, edge, name, opset)
        if runs(mutated, [{names.get(key, key): array for key, array in feed.items()} for feed in feeds]):
            return Mutant(mutated.SerializeToString(), name, edge.name, names)
    raise NoMutant("no mutated graph runs")


def some_feeds(inputs, recorded, rng):
    pool = Pool(inputs, recorded, DRAWS[0], rng)
    return [pool.feed(list(range(count))) for count in (FEW, MORE)]


def edges_of(model, feeds):
    """The values of the main graph that have at least one axis."""
    exposed = onnx.ModelProto.FromString(model.SerializeToString())
    known = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name]
    exposed.graph.output.extend(untyped(name) for name in names if name not in known)
    try:
        runner = Runner(exposed)
        few, more = (runner.raw(feed) for feed in feeds)
    except Exception as error:
        raise NoMutant(str(error)) from None
    found = dict(zip(runner.outputs, zip(few, more)))
    found |= {name: (feeds[0][name], feeds[1][name]) for name in feeds[0]}
    return [edge_of(name, *pair) for name, pair in found.items() if is_tensor(pair[0]) and is_tensor(pair[1])]


def is_tensor(value):
    return isinstance(value, np.ndarray) and value.ndim > 0 and value.size > 0


def edge_of(name, few, more):
    return Edge(name, few.dtype, few.shape[1:], len(few) != len(more))


def choose(edges, kind, rng):
    """A random edge that the kind can change; mostly one that has rows."""
    usable = [edge for edge in edges if kind.any_type or edge.dtype.kind not in "OU"]
    usable = [edge for edge in usable if edge.width > 1 or not kind.wide]
    rows = [edge for edge in usable if edge.follows_rows]
    if rows and rng.random() < SHARE_OF_ROWS:
        usable = rows
    return usable[rng.integers(len(usable))] if usable else None


def insert(model, edge, name, opset):
    """A copy in which the value's producer writes `<name>__before`, and the mixing nodes write the value."""
    mutated = onnx.ModelProto.FromString(model.SerializeToString())
    graph = mutated.graph
    source = edge.name + BEFORE
    place = 0
    for value in graph.input:
        if value.name == edge.name:
            value.name = source
    for at, node in enumerate(graph.node):
        if edge.name in node.output:
            node.output[list(node.output).index(edge.name)] = source
            place = at + 1
    builder = Builder(opset, prefix="mutant_")
    write(builder, source, edge, KINDS[name])
    nodes = [*graph.node[:place], *builder.nodes, *graph.node[place:]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(builder.constants)
    if opset_of(model) is None:
        mutated.opset_import.append(helper.make_opsetid("", opset))
    mutated.ir_version = max(mutated.ir_version, 4)
    return mutated


def write(builder, source, edge, kind):
    """The nodes of the kind, between casts where the value does not hold single-precision numbers."""
    if kind.any_type or edge.dtype == np.float32:
        result = kind.write(builder, source, edge)
    else:
        result = kind.write(builder, builder.cast(source), edge)
        result = builder.cast(result, to=helper.np_dtype_to_tensor_dtype(edge.dtype))
    builder.nodes.append(helper.make_node("Identity", [result], [edge.name]))


def runs(model, feeds):
    try:
        runner = Runner(model)
        for feed in feeds:
            runner.raw(feed)
    except Exception:
        return False
    return True
