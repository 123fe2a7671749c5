"""Building blocks of random graphs: each adds a few nodes to a `Walk`.

`SAFE` blocks keep rows apart, as far as their author can tell; `RISKY` ones mix rows, or come close to it.
"""

from blocks import arithmetic, classic, control, layers, mixing, shapes, torch_style  # noqa: F401  (they fill the lists)
from blocks.registry import RISKY, SAFE

__all__ = ["RISKY", "SAFE"]
