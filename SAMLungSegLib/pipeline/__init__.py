"""The job: an image or one slice of it in, right and left lung out."""

from SAMLungSegLib.pipeline.ahead import encode_volume_ahead
from SAMLungSegLib.pipeline.options import LUNGS, CancelledError, Options, Progress, VolumeBox, VolumePoint
from SAMLungSegLib.pipeline.slices import SliceSegmentation, SliceSegmenter, segment_slice
from SAMLungSegLib.pipeline.whole import Segmentation, prompts_by_slice, segment, segment_volume

__all__ = [
    "LUNGS",
    "CancelledError",
    "Options",
    "Progress",
    "Segmentation",
    "SliceSegmentation",
    "SliceSegmenter",
    "VolumeBox",
    "VolumePoint",
    "encode_volume_ahead",
    "prompts_by_slice",
    "segment",
    "segment_slice",
    "segment_volume",
]
