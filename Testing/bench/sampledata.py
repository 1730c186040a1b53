"""Stand-in for Slicer's module ``SampleData``, as far as modules register data sets and users ask for them.

As in Slicer 5.10 and later (Modules/Scripted/SampleData/SampleData.py): only the panel's buttons call a source's
``customDownloader``. ``downloadSample`` and ``downloadSamples`` go by addresses, which rules rewrite, to files in the
cache; a file that is there already is taken as it is, and a source without a file name gets a new one each time. What
fails with a ValueError, or cannot be loaded, is tried three times, then left out; other errors reach the caller.
"""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import slicer
import vtk

ATTEMPTS = 3


def downloadSample(sampleName: str) -> Any:
    """The first node of a data set; an IndexError where nothing could be loaded."""
    return downloadSamples(sampleName)[0]


def downloadSamples(sampleName: str) -> list:
    """The nodes of a data set; none where there is no such data set."""
    logic = SampleDataLogic()
    source = logic.sourceForSampleName(sampleName)
    return logic.downloadFromSource(source) if source is not None else []


@dataclass
class SampleDataSource:
    """One data set of one or several files: lists of one length."""

    sampleName: str
    uris: list[str]
    fileNames: list[str | None]
    nodeNames: list[str | None]
    loadFileTypes: list[str | None]
    checksums: list[str | None]
    customDownloader: Callable[[SampleDataSource], Any] | None = None
    thumbnailFileName: str | None = None

    def __post_init__(self) -> None:
        columns = (self.uris, self.fileNames, self.nodeNames, self.loadFileTypes, self.checksums)
        if len({len(column) for column in columns}) != 1:
            raise ValueError(f"All fields of sample data source must have the same length: {columns}")


class SampleDataLogic:
    """Sources by category in ``slicer.modules.sampleDataSources``."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        checksums: Any = None,
    ) -> None:
        """Adds a data set once; texts stand for lists of one."""
        columns = [uris, fileNames, nodeNames, loadFileTypes, checksums]
        if isinstance(uris, str):
            columns = [[column] for column in columns]
        lists = [columns[0], *(column or [None] * len(columns[0]) for column in columns[1:])]
        source = SampleDataSource(sampleName, *lists, customDownloader, thumbnailFileName)
        sources = SampleDataLogic.sampleDataSourcesByCategory().setdefault(category, [])
        if source not in sources:
            sources.append(source)

    @staticmethod
    def registerUrlRewriteRule(name: str, rewriteFunction: Callable[[str], str]) -> None:
        """Adds a function that every address goes through before it is downloaded."""
        _registered("sampleDataUrlRewriteRules")[name] = rewriteFunction

    @staticmethod
    def sampleDataSourcesByCategory() -> dict[str, list[SampleDataSource]]:
        return _registered("sampleDataSources")

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        sources = [source for some in self.sampleDataSourcesByCategory().values() for source in some]
        return next((source for source in sources if source.sampleName == sampleName), None)

    def downloadFromSource(self, source: SampleDataSource) -> list:
        """Nodes of the files that could be downloaded and loaded."""
        columns = (source.uris, source.fileNames, source.nodeNames, source.loadFileTypes)
        nodes = [self._downloadAndLoad(*row) for row in zip(*columns, strict=True)]
        return [node for node in nodes if node is not None]

    def _downloadAndLoad(self, uri: str, fileName: str | None, nodeName: str, fileType: str | None) -> Any:
        fileName = fileName or f"{nodeName}-{uuid.uuid4().hex}{PurePosixPath(urlparse(uri).path).suffix}"
        for _attempt in range(ATTEMPTS):
            try:
                path = self._downloadFile(uri, fileName)
            except ValueError:
                continue
            manager, loaded = slicer.app.coreIOManager(), vtk.vtkCollection()
            properties = {"fileName": str(path), "name": nodeName}
            if manager.loadNodes(fileType or manager.fileType(str(path)), properties, loaded):
                return loaded.GetItemAsObject(0)
            path.unlink()
        return None

    def _downloadFile(self, uri: str, fileName: str) -> Path:
        for rule in _registered("sampleDataUrlRewriteRules").values():
            uri = rule(uri)
        path = Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()) / fileName
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            try:
                urllib.request.urlretrieve(uri, path)
            except OSError as error:
                raise ValueError(f"Failed to download {uri} to {path}") from error
        return path


def press(sampleName: str) -> Any:
    """What the data set's button in the panel does."""
    logic = SampleDataLogic()
    source = logic.sourceForSampleName(sampleName)
    return (source.customDownloader or logic.downloadFromSource)(source)


def _registered(attribute: str) -> dict:
    if not hasattr(slicer.modules, attribute):
        setattr(slicer.modules, attribute, {})
    return getattr(slicer.modules, attribute)
