"""Graphs written for this purpose: `mixing` ones, each of which truly mixes rows, and `rowwise` ones that never do."""

import numpy as np

from runs import typed
from sources import Source
from walk import Walk
from written import mixing, rowwise  # noqa: F401  (they fill the list)
from written.registry import WRITTEN


def written_graph(number, seed):
    """The written graph of this number; its weights are random."""
    written = WRITTEN[number]
    walk = Walk(written.opset, np.random.default_rng([seed, number]))
    outputs = written.write(walk)
    outputs = [outputs] if isinstance(outputs, str) else outputs
    return Source(written.origin, written.write.__name__, typed(walk.model(walk.inputs, outputs)), walk.recorded)


__all__ = ["WRITTEN", "written_graph"]
