"""Nodes that the bridge's tests work on."""

from __future__ import annotations

import numpy as np
import pydicom
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy


def add_volume(array, matrix=None, *, parent=None, name="CT", class_name="vtkMRMLScalarVolumeNode"):
    matrix = None if matrix is None else np.asarray(matrix, float)
    node = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, name=name, nodeClassName=class_name)
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def add_transform(matrix, *, parent=None):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    slicer.util.updateTransformMatrixFromArray(node, np.asarray(matrix, float))
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def add_bending_transform():
    """Non-linear: x is moved by 3 mm at x = 10 and by nothing at x = -10."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x, moved in ((-10, -10), (10, 13)):
        for y in (-10, 10):
            for z in (-10, 10):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(moved, y, z)
    source.InsertNextPoint(0, 0, 0)
    target.InsertNextPoint(0, 4, 0)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Bend")
    node.SetAndObserveTransformToParent(spline)
    return node


def add_points(positions, *, parent=None):
    """Placed control points, in the node's own coordinates."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    for position in positions:
        node.AddControlPoint(vtk.vtkVector3d(*position))
    return node


def add_roi(center, size, *, axes=None, parent=None):
    """A placed ROI; `axes` are the columns of its own directions."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    matrix = np.eye(4)
    matrix[:3, 3] = center
    if axes is not None:
        matrix[:3, :3] = axes
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.SetSize(*size)
    node.AddControlPoint(vtk.vtkVector3d(*center))
    return node


def add_slice_node(matrix, name="Red"):
    """A slice view whose plane has the axes and the place of `matrix`."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
    node.SetLayoutName(name)
    node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    node.UpdateMatrices()
    return node


def add_segmentation(volume=None, *, parent=None, name="Segmentation"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    if volume is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return node


def import_labelmap(segmentation, array, matrix, names):
    """Segments that share one layer, as Slicer makes them of a labelmap volume; their IDs in the order of `names`."""
    labelmap = add_volume(array, matrix, class_name="vtkMRMLLabelMapVolumeNode", name="labels")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ImportLabelmapToSegmentationNode(labelmap, segmentation)
    slicer.mrmlScene.RemoveNode(labelmap)
    ids = segmentation.GetSegmentation().GetSegmentIDs()[-len(names) :]
    for one, name in zip(ids, names, strict=True):
        segmentation.GetSegmentation().GetSegment(one).SetName(name)
    return list(ids)


def add_segment(segmentation, mask, matrix, name):
    """A segment in a layer of its own, on any grid; its ID."""
    image = oriented_image(mask, matrix)
    return segmentation.AddSegmentFromBinaryLabelmapRepresentation(image, name)


def oriented_image(array, matrix):
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*array.shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = array.ravel()
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(np.asarray(matrix, float)))
    return image


def voxels_in_world(segmentation, segment_id):
    """Centres of a segment's voxels in the segmentation's own coordinates, sorted; exactly what is stored."""
    image = segmentation.GetBinaryLabelmapInternalRepresentation(segment_id)
    if 0 in image.GetDimensions():
        return np.zeros((0, 3))
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    matrix = slicer.util.arrayFromVTKMatrix(matrix)
    stored = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentation, segment_id)
    value = segmentation.GetSegmentation().GetSegment(segment_id).GetLabelValue()
    ijk = np.argwhere(stored == value)[:, ::-1] + np.array(image.GetExtent())[::2]
    points = np.round(ijk @ matrix[:3, :3].T + matrix[:3, 3], 6) + 0.0
    return points[np.lexsort(points.T)]


def segment_array(segmentation, segment_id, volume):
    """What Slicer itself reads of a segment on a volume's grid; exact only where both share their parent transform."""
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)


def stored_mask(segmentation, segment_id, segmentation_to_world, volume_to_world, size_kji):
    """Bool array on a volume's grid, from the places of the voxels that are stored, which must be the volume's."""
    world = voxels_in_world(segmentation, segment_id) @ segmentation_to_world[:3, :3].T + segmentation_to_world[:3, 3]
    world_to_ijk = np.linalg.inv(volume_to_world)
    ijk = world @ world_to_ijk[:3, :3].T + world_to_ijk[:3, 3]
    assert np.abs(ijk - np.rint(ijk)).max(initial=0) < 1e-3, "voxels lie beside the volume's"
    mask = np.zeros(size_kji, bool)
    mask[tuple(np.rint(ijk).astype(int)[:, ::-1].T)] = True
    return mask


def rotation(rng):
    """A random rotation (3, 3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def affine(linear, translation):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, translation
    return matrix


def random_grid(rng):
    """An oblique, flipped, anisotropic IJK to RAS."""
    axes = rotation(rng) * rng.choice([-1, 1], size=3)
    return affine(axes * rng.uniform(0.4, 3.0, size=3), rng.uniform(-80, 80, size=3))


def random_transform(rng):
    """Turned, moved, and stretched differently along its axes."""
    return affine(rotation(rng) @ np.diag(rng.uniform(0.7, 1.4, size=3)), rng.uniform(-40, 40, size=3))


def load(path):
    """As Slicer's own reader does it."""
    return slicer.app.moduleLogic("Volumes").AddArchetypeVolume(str(path), path.stem)


def load_dicom_series(folder):
    """As Slicer's DICOM module does it, which sorts the files itself."""
    files = sorted(folder.iterdir(), key=lambda path: pydicom.dcmread(path, stop_before_pixels=True).SliceLocation)
    paths = vtk.vtkStringArray()
    for path in files:
        paths.InsertNextValue(str(path))
    return slicer.app.moduleLogic("Volumes").AddArchetypeVolume(str(files[0]), "series", 0, paths)
