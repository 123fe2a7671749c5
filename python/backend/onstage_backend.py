"""maturin, after it has made a source archive forget that `onstage-convert` is a program: `pip install` of one builds by this."""

from pathlib import Path
from typing import Any

import maturin
from maturin import *  # noqa: F403

SCRIPT = Path("python/scripts.data/scripts/onstage-convert")


def build_wheel(directory: str, settings: Any = None, metadata: Any = None) -> str:
    """The wheel, its script a program."""
    SCRIPT.chmod(0o755)
    return str(maturin.build_wheel(directory, settings, metadata))
