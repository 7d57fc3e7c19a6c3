"""What every trial can be told; each adds its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How the workers run."""

    #: the workers' pool; the default where none is named
    pool: str = ""
