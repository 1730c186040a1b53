"""The job: an image or one slice of it in, right and left lung out."""

from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.options import LUNG_CHOICES, Options, Progress
from SAMLungSegLib.pipeline.prefetch import SliceQueue, encode_ahead, encode_volume_ahead
from SAMLungSegLib.pipeline.slice import SliceSegmentation, SliceSegmenter, segment_slice
from SAMLungSegLib.pipeline.volume import Segmentation, segment, segment_volume
from SAMLungSegLib.prompts.volume import VolumeBox, VolumePoint

__all__ = [
    "LUNG_CHOICES",
    "CancelledError",
    "Options",
    "Progress",
    "Segmentation",
    "SliceQueue",
    "SliceSegmentation",
    "SliceSegmenter",
    "VolumeBox",
    "VolumePoint",
    "encode_ahead",
    "encode_volume_ahead",
    "segment",
    "segment_slice",
    "segment_volume",
]
