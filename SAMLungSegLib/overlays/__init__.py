"""Pictures of a segmentation to judge it by: `write_overlay`, and `write_thumbnail` for a glance at many.

Pictures are what radiologists are used to: the patient's right at the left, anterior or the head on top, true
proportions.
"""

from SAMLungSegLib.overlays.sheet import write_overlay
from SAMLungSegLib.overlays.thumbnail import write_thumbnail

__all__ = ["write_overlay", "write_thumbnail"]
