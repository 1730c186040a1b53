"""What the module does, each job in three parts.

The constructor reads the scene, `run` computes on plain data on any thread, `finish` writes into the scene. Constructor
and `finish` belong to the main thread. A job that is cancelled or fails has changed nothing.
"""

from SAMLungSegSlicer.jobs.caches import releaseMemory
from SAMLungSegSlicer.jobs.cardiothoracic import CardiothoracicJob, CardiothoracicNodes, cardiothoracicTable
from SAMLungSegSlicer.jobs.cohorts import FolderJob
from SAMLungSegSlicer.jobs.comparing import CompareMethodsJob
from SAMLungSegSlicer.jobs.downloading import DownloadJob
from SAMLungSegSlicer.jobs.evaluating import EvaluateJob, EvaluationNodes, WorstSlice
from SAMLungSegSlicer.jobs.measuring import MeasureJob
from SAMLungSegSlicer.jobs.prefetching import EncodeAheadJob
from SAMLungSegSlicer.jobs.propagating import PropagateJob
from SAMLungSegSlicer.jobs.segmenting import SegmentSliceJob, SegmentVolumeJob
from SAMLungSegSlicer.jobs.settings import Settings
from SAMLungSegSlicer.jobs.timeline import TimelineJob
from SAMLungSegSlicer.jobs.tuning import TuneJob

__all__ = [
    "CardiothoracicJob",
    "CardiothoracicNodes",
    "CompareMethodsJob",
    "DownloadJob",
    "EncodeAheadJob",
    "EvaluateJob",
    "EvaluationNodes",
    "FolderJob",
    "MeasureJob",
    "PropagateJob",
    "SegmentSliceJob",
    "SegmentVolumeJob",
    "Settings",
    "TimelineJob",
    "TuneJob",
    "WorstSlice",
    "cardiothoracicTable",
    "releaseMemory",
]
