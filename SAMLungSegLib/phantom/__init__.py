"""A generated chest, for demos, tests and training: CT volume, lung labelmap and radiograph from one seed."""

from SAMLungSegLib.phantom.ct import Phantom, chest_ct
from SAMLungSegLib.phantom.xray import chest_xray

__all__ = ["Phantom", "chest_ct", "chest_xray"]
