"""Names of X-rays by the part of the set that they are in."""

from __future__ import annotations

from SAMLungSegLib.training.data.splits import split_of


def montgomery():
    """One name of the part that lung-compact learns from, and one of the part kept for tests."""
    names = [f"MCUCXR_{number:04d}_0" for number in range(1, 60)]
    return tuple(next(name for name in names if split_of(name) == split) for split in ("train", "validation", "test"))
