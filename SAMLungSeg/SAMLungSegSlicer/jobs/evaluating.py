"""Lungs compared with a reference: tables, a plot, and the slices to look at first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.targets import isInScene, segmentedVolume

if TYPE_CHECKING:
    import pandas as pd

    from SAMLungSegLib.evaluation import ComparedSlice, Evaluation

logger = logging.getLogger(__name__)

DEFAULT_TOLERANCE_MM = 2.0
_PREDICTION_ROLE, _REFERENCE_ROLE = "SAMLungSegPrediction", "SAMLungSegReference"
_KIND = "SAMLungSeg.Table"


class WorstSlice(NamedTuple):
    """A slice where prediction and reference agree least.

    Attributes:
        label: for people, such as 'Slice 12: Dice 0.81'.
        worldRas: the middle of what differs there, in mm; for `bridge.jumpTo`.
        dice: of both lungs in that slice.
    """

    label: str
    worldRas: tuple[float, float, float]
    dice: float


class EvaluationNodes(NamedTuple):
    """What an evaluation left in the scene.

    Attributes:
        sliceTable: one row for each lung and slice.
        summaryTable: one row for each lung of the whole volume.
        plotChart: Dice of each lung over the slices.
        worst: the slices with the lowest Dice, worst first.
        statisticsTable: mean, standard deviation, median, quartiles and range over the slices.
        notes: what was decided about grids and labels, one sentence each.
    """

    sliceTable: slicer.vtkMRMLTableNode
    summaryTable: slicer.vtkMRMLTableNode
    plotChart: slicer.vtkMRMLPlotChartNode
    worst: list[WorstSlice]
    statisticsTable: slicer.vtkMRMLTableNode
    notes: tuple[str, ...]


class EvaluateJob:
    """Compares a segmentation or labelmap with another, on the reference's grid, continued as far as needed."""

    def __init__(
        self,
        predictionNode: slicer.vtkMRMLNode | None,
        referenceNode: slicer.vtkMRMLNode | None,
        volumeNode: slicer.vtkMRMLVolumeNode | None = None,
        *,
        toleranceMm: float = DEFAULT_TOLERANCE_MM,
        csv: Path | str | None = None,
    ) -> None:
        """Read both labelmaps.

        Args:
            predictionNode: segmentation with lungs, or labelmap volume with 1 = right, 2 = left.
            referenceNode: likewise.
            volumeNode: whose grid segmentations are read on; None for what they were segmented from.
            toleranceMm: of the surface Dice.
            csv: file to write the table of slices into as well.
        Raises:
            SAMLungSegError: a node is missing or is no labelmap of lungs, the tolerance is no length, or the CSV file
                could not be written.
        """
        from SAMLungSegLib.errors import VolumeError
        from SAMLungSegLib.evaluation import check_tolerance
        from SAMLungSegLib.files import check_writable

        check_tolerance(toleranceMm)
        if csv:
            check_writable(Path(csv).parent)
        if referenceNode is None:
            raise VolumeError("No reference is given; choose a segmentation or a labelmap volume to compare with.")
        self._nodes = predictionNode, referenceNode
        volumeNode = volumeNode or segmentedVolume(predictionNode) or segmentedVolume(referenceNode)
        self._prediction, self._reference = (bridge.labelmapFromNode(node, volumeNode) for node in self._nodes)
        isSegmentation = referenceNode.IsA("vtkMRMLSegmentationNode")
        grid = volumeNode if isSegmentation else referenceNode
        ijkToWorld = self._reference.ijk_to_ras if grid is None else bridge.ijkToWorldMatrix(grid)
        self._rasToWorld = ijkToWorld @ np.linalg.inv(self._reference.ijk_to_ras)
        self._toleranceMm, self._csv = toleranceMm, csv and Path(csv)

    def run(
        self, progress: Callable[..., None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> Evaluation:
        """Measure, on any thread.

        Raises:
            SAMLungSegError: the grids do not meet, or a node holds something else than labels.
        """
        from SAMLungSegLib.evaluation import evaluate

        return evaluate(self._prediction, self._reference, tolerance_mm=self._toleranceMm)

    def finish(self, result: Evaluation) -> EvaluationNodes | None:
        """Show the measurements as nodes; those of an earlier evaluation of the same two nodes are filled anew.

        Returns:
            None, with nothing changed, when a node was removed meanwhile.
        """
        if not all(isInScene(node) for node in self._nodes):
            logger.info("What was compared has been removed meanwhile: the tables are not shown.")
            return None
        from SAMLungSegLib.evaluation import summarise
        from SAMLungSegLib.files import writable_folder, write_csv

        if self._csv is not None:
            writable_folder(self._csv.parent)
            write_csv(result.per_slice, self._csv)
        dice = _diceBySlice(result.per_slice)
        return EvaluationNodes(
            sliceTable=self._table("slices", _("slices"), result.per_slice),
            summaryTable=self._table("volume", _("whole volume"), result.per_volume),
            plotChart=self._plot(dice),
            worst=self._worst(result),
            statisticsTable=self._table("statistics", _("statistics"), summarise([result])),
            notes=result.notes,
        )

    def _table(self, kind: str, title: str, dataframe: pd.DataFrame) -> slicer.vtkMRMLTableNode:
        prediction, reference = self._nodes
        name = _("{prediction} against {reference}, {title}").format(
            prediction=prediction.GetName(), reference=reference.GetName(), title=title
        )
        table = bridge.tableFromDataFrame(dataframe, name, self._earlierTable(kind))
        table.SetAttribute(_KIND, kind)
        for role, node in zip((_PREDICTION_ROLE, _REFERENCE_ROLE), self._nodes, strict=True):
            table.SetNodeReferenceID(role, node.GetID())
        return table

    def _earlierTable(self, kind: str) -> slicer.vtkMRMLTableNode | None:
        for table in slicer.util.getNodesByClass("vtkMRMLTableNode"):
            nodes = tuple(table.GetNodeReference(role) for role in (_PREDICTION_ROLE, _REFERENCE_ROLE))
            if table.GetAttribute(_KIND) == kind and nodes == self._nodes:
                return table
        return None

    def _plot(self, dice: pd.DataFrame) -> slicer.vtkMRMLPlotChartNode:
        table = self._table("dice", _("Dice of slices"), dice)
        x, *lungs = dice.columns
        return bridge.plotFromTable(table, x, lungs, table.GetName(), "Dice", bars=len(dice) == 1)

    def _worst(self, result: Evaluation) -> list[WorstSlice]:
        return [
            WorstSlice(
                _("Slice {number}: Dice {dice}").format(number=one.number, dice=f"{one.scores['dice']:.3f}"),
                self._middleOfDifference(one, result),
                float(one.scores["dice"]),
            )
            for one in result.worst
        ]

    def _middleOfDifference(self, one: ComparedSlice, result: Evaluation) -> tuple[float, float, float]:
        """The pixel closest to the middle of those that differ, or of the lungs where none does."""
        differs = one.reference_hw != one.prediction_hw
        y, x = np.nonzero(differs if differs.any() else one.reference_hw)
        nearest = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
        ras = result.plane.nxy_to_ras((one.number, x[nearest], y[nearest]))
        return tuple((self._rasToWorld @ [*ras, 1])[:3].tolist())


def _diceBySlice(per_slice: pd.DataFrame) -> pd.DataFrame:
    """One row for each slice, one column for each lung, in the order of the table."""
    structures = list(dict.fromkeys(per_slice["structure"]))
    wide = per_slice.pivot(index="slice", columns="structure", values="dice")[structures]
    return wide.rename_axis(columns=None).reset_index()
