"""A new segmentation lies beside its volume in the subject hierarchy, in the patient's study."""

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer

from SAMLungSegSlicer import bridge


@pytest.fixture
def hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


@pytest.fixture
def study(hierarchy):
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    return hierarchy.CreateStudyItem(patient, "study")


@pytest.fixture
def volumeNode():
    return nodes.add_volume(np.zeros((4, 5, 6), np.int16))


def parentOf(hierarchy, node) -> int:
    return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))


def test_a_new_segmentation_is_put_into_the_study_of_its_volume(hierarchy, study, volumeNode):
    hierarchy.CreateItem(study, volumeNode)
    assert parentOf(hierarchy, bridge.ensureSegmentation(volumeNode)) == study


def test_an_empty_segmentation_that_slicer_has_put_at_the_top_is_moved_into_the_study(hierarchy, study, volumeNode):
    hierarchy.CreateItem(study, volumeNode)
    made = nodes.add_segmentation()
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), made, "Segmentations")
    bridge.ensureSegmentation(volumeNode, made)
    assert hierarchy.GetItemByDataNode(made) == item
    assert hierarchy.GetItemParent(item) == study
    assert hierarchy.GetItemOwnerPluginName(item) == "Segmentations"


def test_a_segmentation_stays_where_somebody_has_put_it(hierarchy, study, volumeNode):
    hierarchy.CreateItem(study, volumeNode)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "my results")
    empty, used = nodes.add_segmentation(), nodes.add_segmentation(volumeNode)
    hierarchy.CreateItem(folder, empty)
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), used)
    for node in (empty, used):
        bridge.ensureSegmentation(volumeNode, node)
    assert parentOf(hierarchy, empty) == folder
    assert parentOf(hierarchy, used) == hierarchy.GetSceneItemID()


@pytest.mark.parametrize("listed", [True, False])
def test_lungs_of_a_volume_without_a_study_are_left_to_slicer(hierarchy, volumeNode, listed):
    if listed:
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), volumeNode)
    before = hierarchy.GetNumberOfItems()
    made = bridge.ensureSegmentation(volumeNode)
    assert hierarchy.GetNumberOfItems() == before
    assert hierarchy.GetItemByDataNode(made) == hierarchy.GetInvalidItemID()
