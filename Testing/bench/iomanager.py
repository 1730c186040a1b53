"""``slicer.app.coreIOManager()``: loads and saves nodes and scenes by MRML's own storage nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import vtk

if TYPE_CHECKING:
    from bench.application import Application

FILE_TYPES = {
    ".seg.nrrd": "SegmentationFile",
    ".seg.nhdr": "SegmentationFile",
    ".mrk.json": "MarkupsFile",
    ".fcsv": "MarkupsFile",
    ".mrb": "SceneFile",
    ".mrml": "SceneFile",
    ".vtk": "ModelFile",
    ".vtp": "ModelFile",
    ".stl": "ModelFile",
    ".ply": "ModelFile",
    ".obj": "ModelFile",
    ".tsv": "TableFile",
    ".csv": "TableFile",
    ".h5": "TransformFile",
    ".tfm": "TransformFile",
    ".txt": "TextFile",
    ".nii.gz": "VolumeFile",
}
NODE_CLASSES = {
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "ModelFile": "vtkMRMLModelNode",
    "TableFile": "vtkMRMLTableNode",
    "TransformFile": "vtkMRMLTransformNode",
    "TextFile": "vtkMRMLTextNode",
}
LABELMAP_OPTION = 1


class IOManager:
    """The part of qSlicerCoreIOManager that ``slicer.util.loadNodeFromFile`` and ``saveNode`` use."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def fileType(self, fileName: str) -> str:
        name = str(fileName).lower()
        return next((kind for suffix, kind in FILE_TYPES.items() if name.endswith(suffix)), "VolumeFile")

    def fileWriterFileType(self, node: Any) -> str:
        return node.GetClassName()

    def extractKnownExtension(self, fileName: str, node: Any) -> str:
        name = str(fileName).lower()
        return next((suffix for suffix in FILE_TYPES if name.endswith(suffix)), Path(name).suffix)

    def fileWriterExtensions(self, node: Any) -> list[str]:
        types = node.CreateDefaultStorageNode().GetSupportedWriteFileTypes()
        return [types.GetValue(index) for index in range(types.GetNumberOfValues())]

    def loadNodes(self, fileType: str, properties: dict, loaded: vtk.vtkCollection, messages: Any = None) -> bool:
        """Loads a file; new nodes are added to ``loaded``."""
        path = Path(properties["fileName"])
        if not path.exists():
            if messages is not None:
                messages.AddMessage(vtk.vtkCommand.ErrorEvent, f"{path} does not exist")
            return False
        if fileType == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear")), messages)
        node = self._load_node(fileType, path, properties, messages)
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def _load_scene(self, path: Path, clear: bool, messages: Any) -> bool:
        scene = self._application.mrmlScene()
        if path.suffix.lower() == ".mrb":
            return bool(scene.ReadFromMRB(str(path), clear, messages))
        scene.SetURL(str(path))
        return bool(scene.Connect(messages) if clear else scene.Import(messages))

    def _load_node(self, fileType: str, path: Path, properties: dict, messages: Any) -> Any:
        name = properties.get("name") or path.name.partition(".")[0]
        scene = self._application.mrmlScene()
        if fileType == "VolumeFile":
            options = LABELMAP_OPTION if properties.get("labelmap") else 0
            return self._application.moduleLogic("Volumes").AddArchetypeVolume(str(path), name, options)
        if fileType == "MarkupsFile":
            nodeID = self._application.moduleLogic("Markups").LoadMarkups(str(path), name, messages)
            return scene.GetNodeByID(nodeID) if nodeID else None
        return self._load_by_storage_node(NODE_CLASSES[fileType], path, name)

    def _load_by_storage_node(self, className: str, path: Path, name: str) -> Any:
        scene = self._application.mrmlScene()
        node = scene.AddNewNodeByClass(className, name)
        storage = scene.AddNode(node.CreateDefaultStorageNode())
        storage.SetFileName(str(path))
        if not storage.ReadData(node):
            scene.RemoveNode(storage)
            scene.RemoveNode(node)
            return None
        node.SetAndObserveStorageNodeID(storage.GetID())
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node

    def saveNodes(self, fileType: str, properties: dict, messages: Any = None) -> bool:
        """Saves a node, or the scene, to a file."""
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return self._save_scene(path, messages)
        node = self._application.mrmlScene().GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(properties["useCompression"])
        return bool(storage.WriteData(node))

    def _save_scene(self, path: str, messages: Any) -> bool:
        scene = self._application.mrmlScene()
        if path.lower().endswith(".mrb"):
            return bool(scene.WriteToMRB(path, None, messages))
        scene.SetURL(path)
        return bool(scene.Commit(path, messages))

    def exportNodes(
        self, nodeIDs: Any, fileNames: Any, properties: Any, hardenTransforms: bool, messages: Any = None
    ) -> bool:
        """Writes nodes without changing their storage nodes."""
        scene = self._application.mrmlScene()
        for nodeID, fileName in zip(nodeIDs, fileNames, strict=True):
            node = scene.GetNodeByID(nodeID)
            storage = node.CreateDefaultStorageNode()
            storage.SetFileName(str(fileName))
            if not storage.WriteData(node):
                return False
        return True
