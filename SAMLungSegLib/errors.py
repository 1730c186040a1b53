"""Errors a user can act on.

Every message says what was given, what was expected and what to do. The command line prints the message as one
line and exits with code 2; anything else that is raised is a defect of ours.
"""


class SAMLungSegError(Exception):
    """Base of all errors that the library raises on purpose."""


class VolumeError(SAMLungSegError):
    """An image cannot be read, written or used as a volume."""


class OutputError(VolumeError):
    """A file or folder cannot be written, or was removed meanwhile."""


class GeometryError(SAMLungSegError):
    """Grids, shapes or directions do not fit together or are degenerate."""


class IntensityError(SAMLungSegError):
    """Voxel values cannot be turned into a grey image, or a window is not valid."""


class PromptError(SAMLungSegError):
    """A point, box or mask prompt is malformed or outside the slice."""


class ModelError(SAMLungSegError):
    """A model is unknown, its weights are absent or damaged, or they do not fit the network."""
