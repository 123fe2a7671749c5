"""Families of random graphs: each module registers its own."""

from families import calculations, encoders, linear, reductions, shapes, small, texts, trees, trees_v5, vectors
from families.registry import FAMILIES, Draw, Sample

__all__ = [
    "FAMILIES",
    "Draw",
    "Sample",
    "calculations",
    "encoders",
    "linear",
    "reductions",
    "shapes",
    "small",
    "texts",
    "trees",
    "trees_v5",
    "vectors",
]
