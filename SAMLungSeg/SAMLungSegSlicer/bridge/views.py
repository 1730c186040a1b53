"""What the views show."""

from __future__ import annotations

from collections.abc import Sequence

import slicer


def jumpTo(worldRas: Sequence[float]) -> None:
    """Make all slice views show a point of the world, in the way (offset or centred) that each is set to.

    Args:
        worldRas: three numbers in mm.
    """
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *(float(value) for value in worldRas))
