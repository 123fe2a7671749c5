"""Random graphs: about half of them keep rows apart, the others hold one or two blocks that may mix them."""

import numpy as np

from blocks import RISKY, SAFE
from inputs import WORDS
from sources import Source
from walk import ONE, Unfit, Walk

OPSETS = (7, 21)
NODES = (3, 15)
STEPS = 40
SHARE_WITH_RISK = 0.85
TRIES = 20


def random_graph(number, seed):
    """The random graph of this number."""
    for attempt in range(TRIES):
        rng = np.random.default_rng([seed, number, attempt])
        try:
            return grown(f"random_{number:03}", rng)
        except Unfit:
            continue
    raise Unfit(f"no random graph from seed {seed}, number {number}")


def grown(name, rng):
    walk = Walk(int(rng.integers(OPSETS[0], OPSETS[1] + 1)), rng)
    add_inputs(walk)
    target = walk.number(*NODES)
    risks = walk.number(1, 2) if walk.maybe(SHARE_WITH_RISK) else 0
    safe, risky = ([block for block in blocks if block.since <= walk.opset] for blocks in (SAFE, RISKY))
    for _ in range(STEPS):
        if len(walk.nodes) >= target:
            break
        take_risk = risks and walk.maybe(0.4)
        before = len(walk.nodes)
        walk.step(walk.choice(risky if take_risk else safe).write)
        risks -= int(take_risk and len(walk.nodes) > before)
    outputs = chosen_outputs(walk)
    model = walk.finish(outputs)
    if len(model.graph.node) < NODES[0] or not model.graph.input:
        raise Unfit("too small")
    return Source("random", name, model, walk.recorded)


def add_inputs(walk):
    """One to three inputs, at least one of them with floating-point rows."""
    choices = [floats_1, floats_2, floats_3, images, ids_1, ids_2, texts_1, texts_2, scalar]
    walk.choice([floats_2, floats_2, floats_3, images])(walk, "x")
    for name in ["y", "z"][: walk.number(0, 2)]:
        walk.choice(choices)(walk, name)


def normal(walk):
    return lambda shape: walk.rng.normal(size=shape)


def floats_1(walk, name):
    walk.input(name, np.float32, (), normal(walk))


def floats_2(walk, name):
    walk.input(name, np.float32, (walk.number(1, 6),), normal(walk))


def floats_3(walk, name):
    walk.input(name, np.float32, (walk.number(2, 5), walk.number(1, 4)), normal(walk))


def images(walk, name):
    walk.input(name, np.float32, (walk.number(1, 3), 4, 4), normal(walk))


def ids_1(walk, name):
    walk.input(name, np.int64, (), lambda shape: walk.rng.integers(0, 5, shape))


def ids_2(walk, name):
    walk.input(name, np.int64, (walk.number(1, 5),), lambda shape: walk.rng.integers(0, 5, shape))


def texts_1(walk, name):
    walk.input(name, object, (), lambda shape: walk.rng.choice(WORDS, shape))


def texts_2(walk, name):
    walk.input(name, object, (walk.number(1, 3),), lambda shape: walk.rng.choice(WORDS, shape))


def scalar(walk, name):
    """An input without rows."""
    walk.input(name, np.float32, (), normal(walk), rows=False)


def chosen_outputs(walk):
    """Up to three values that nothing reads; those whose first axis is the rows, unless there is none."""
    leaves = walk.leaves()
    rows = [name for name in leaves if walk.values[name].shape[:1] == (ONE,)]
    usable = rows or leaves
    if not usable:
        raise Unfit("no value to put out")
    return usable[-walk.number(1, 3) :]
