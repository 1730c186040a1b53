"""The preview, whose acceptance keeps to what the Segment Editor is set to and can be undone there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import Context
from SAMLungSegSlicer.live.held import Held
from SAMLungSegSlicer.live.preview import PreviewController

if TYPE_CHECKING:
    from SAMLungSegLib.interaction import Proposal, Session


class EffectPreview(PreviewController):
    """As that of the panel; other segments lose what the lungs gain, where the editor's overwrite mode says so."""

    def __init__(self, context: Context, scriptedEffect: Any) -> None:
        super().__init__(context, lambda: "")
        self._scriptedEffect = scriptedEffect

    def _write(
        self, session: Session, held: Held, proposal: Proposal, segmentationNode: slicer.vtkMRMLSegmentationNode
    ) -> None:
        self._scriptedEffect.saveStateForUndo()
        super()._write(session, held, proposal, segmentationNode)
        editorNode, lungs = self._scriptedEffect.parameterSetNode(), bridge.findLungSegments(segmentationNode)
        gained_hw = proposal.inside_hw & (proposal.labels_hw > 0) & (proposal.before_hw == 0)
        others = bridge.overwrittenSegments(editorNode, segmentationNode, lungs.values())
        bridge.eraseCut(segmentationNode, others, gained_hw, proposal.prompts.reformat, held.volumeNode)
