"""Images with their place in the patient: reading, display orientation, writing.

Arrays are (K, J, I), matrices take integer IJK (voxel centres) to RAS in mm. SimpleITK's LPS stays inside this package.
"""

from SAMLungSegLib.volume.conversion import Image, as_volume
from SAMLungSegLib.volume.formats import IMAGE_EXTENSIONS, given_name, image_name, is_image_path
from SAMLungSegLib.volume.geometry import SlicePlane, axial_plane
from SAMLungSegLib.volume.guarded import read_volume
from SAMLungSegLib.volume.reformat import ReformattedSlice, reformat_volume
from SAMLungSegLib.volume.types import Volume
from SAMLungSegLib.volume.writing import LABELMAP_EXTENSIONS, RESULT_EXTENSIONS, write_labelmap

__all__ = [
    "IMAGE_EXTENSIONS",
    "LABELMAP_EXTENSIONS",
    "RESULT_EXTENSIONS",
    "Image",
    "ReformattedSlice",
    "SlicePlane",
    "Volume",
    "as_volume",
    "axial_plane",
    "given_name",
    "image_name",
    "is_image_path",
    "read_volume",
    "reformat_volume",
    "write_labelmap",
]
