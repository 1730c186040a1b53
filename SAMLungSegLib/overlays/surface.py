"""The surface of the lungs, seen from the front."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LightSource
from matplotlib.ticker import MultipleLocator
from mpl_toolkits.mplot3d import Axes3D
from scipy import ndimage
from skimage.measure import marching_cubes

from SAMLungSegLib.evaluation.figures import LUNG_COLOURS
from SAMLungSegLib.overlays.sampling import CoarseLungs
from SAMLungSegLib.structures import LUNGS

_SMOOTHING = 0.7  # SD in voxels of the coarse grid
_LEVEL = 0.5
_ELEVATION, _AZIMUTH = 12, 65  # degrees; 90 looks from anterior, less from the patient's right
_GREY = "#909090"


def draw_surface(axes: Axes3D, lungs: CoarseLungs) -> None:
    """Draw both lungs in their colours; axes are the patient's, R, A and S in mm.

    Marching cubes (Lorensen and Cline 1987, as scikit-image has them) on the coarse grid, a little smoothed.
    """
    light = LightSource(azdeg=90 - _AZIMUTH, altdeg=45)  # from where one looks, and from above
    for label in LUNGS.labels:
        mask = np.pad(lungs.labels_ras == label, 2)
        smooth = ndimage.gaussian_filter(mask.astype(np.float32), _SMOOTHING)
        if smooth.max() <= _LEVEL:  # nothing, or specks
            continue
        corners, faces, *_ = marching_cubes(smooth, _LEVEL, gradient_direction="ascent")
        x, y, z = (lungs.first_ras + (corners - 2) * lungs.step_mm).T
        colour = LUNG_COLOURS[label][1]
        axes.plot_trisurf(x, y, faces, z, color=colour, linewidth=0, antialiased=False, lightsource=light)
    axes.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    axes.set_proj_type("ortho")
    axes.set_box_aspect([np.ptp(limits()) for limits in (axes.get_xlim, axes.get_ylim, axes.get_zlim)], zoom=1.05)
    axes.set_facecolor("none")
    axes.grid(False)
    for axis, letter in ((axes.xaxis, "R"), (axes.yaxis, "A"), (axes.zaxis, "S")):
        axis.set_pane_color("#202020")
        axis.set_label_text(f"{letter} [mm]", color=_GREY, fontsize=8)
        axis.labelpad = -5
        axis.set_major_locator(MultipleLocator(100))
    axes.tick_params(colors=_GREY, labelsize=7, pad=-2)
