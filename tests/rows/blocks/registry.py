"""The lists of blocks, and the decorators that fill them."""

from dataclasses import dataclass

SAFE, RISKY = [], []


@dataclass(frozen=True)
class Block:
    """`write(walk)` adds nodes that need an opset of at least `since`."""

    write: object
    since: int


def safe(since=7):
    return register(SAFE, since)


def risky(since=7):
    return register(RISKY, since)


def register(blocks, since):
    def add(write):
        blocks.append(Block(write, since))
        return write

    return add
