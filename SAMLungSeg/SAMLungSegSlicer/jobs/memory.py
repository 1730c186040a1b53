"""What jobs keep for the next one."""

from __future__ import annotations

from SAMLungSegSlicer.jobs.images import forgetImage
from SAMLungSegSlicer.jobs.models import models
from SAMLungSegSlicer.jobs.segmenters import segmenters


def releaseMemory() -> None:
    """Let go of models, copied voxels and embeddings, as when the scene is closed; the next job makes them anew."""
    forgetImage()
    segmenters.clear()
    models.clear()
